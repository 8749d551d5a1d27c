package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

func init() {
	commands["grpc-server"] = command{"serve interop.Echo and health on grpc-go", grpcServer}
}

func grpcServer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("grpc-server", flag.ContinueOnError)
	network := flags.String("network", "unix", "unix or tcp")
	address := flags.String("address", "", "socket path, or host:port")
	age := flags.Duration("max-connection-age", 0, "MaxConnectionAge")
	grace := flags.Duration("max-connection-age-grace", 0, "MaxConnectionAgeGrace")
	streams := flags.Uint("max-concurrent-streams", 0, "MaxConcurrentStreams")
	stop := flags.Duration("graceful-stop-after", 0, "GracefulStop after so long")
	files := addTLSFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	creds, err := files.server()
	if err != nil {
		return err
	}
	options := []grpc.ServerOption{
		grpc.Creds(creds),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: *age, MaxConnectionAgeGrace: *grace}),
	}
	if *streams > 0 {
		options = append(options, grpc.MaxConcurrentStreams(uint32(*streams)))
	}
	server := grpc.NewServer(options...)
	server.RegisterService(&echoService, &echo{})
	healthServer := health.NewServer()
	healthpb.RegisterHealthServer(server, healthServer)
	listener, err := net.Listen(*network, *address)
	if err != nil {
		return err
	}
	if *stop > 0 {
		time.AfterFunc(*stop, server.GracefulStop)
	}
	go func() {
		<-ctx.Done()
		server.Stop()
	}()
	fmt.Println("READY", listener.Addr())
	return server.Serve(listener)
}
