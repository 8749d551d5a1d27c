package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	_ "github.com/spiffe/go-spiffe/v2/spiffetls"
	_ "github.com/spiffe/go-spiffe/v2/workloadapi"
)

func init() {
	commands["versions"] = command{"print what this program is built from", versions}
}

func versions(context.Context, []string) error {
	fmt.Println("go", runtime.Version())
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return fmt.Errorf("no build information")
	}
	for _, dep := range info.Deps {
		switch dep.Path {
		case "google.golang.org/grpc", "google.golang.org/protobuf", "github.com/spiffe/go-spiffe/v2":
			fmt.Println(dep.Path, dep.Version)
		}
	}
	return nil
}
