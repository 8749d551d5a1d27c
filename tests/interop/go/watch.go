package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func init() {
	commands["watch"] = command{"print a line for each X.509 context that go-spiffe gets", watch}
}

// printer writes one JSON object a line for each update or error.
type printer struct{ out *json.Encoder }

func (p printer) OnX509ContextUpdate(update *workloadapi.X509Context) {
	type svid struct {
		ID       string    `json:"id"`
		Serial   string    `json:"serial"`
		Hint     string    `json:"hint"`
		NotAfter time.Time `json:"not_after"`
	}
	svids := []svid{}
	for _, s := range update.SVIDs {
		leaf := s.Certificates[0]
		svids = append(svids, svid{s.ID.String(), leaf.SerialNumber.String(), s.Hint, leaf.NotAfter})
	}
	bundles := map[string]int{}
	for _, b := range update.Bundles.Bundles() {
		bundles[b.TrustDomain().Name()] = len(b.X509Authorities())
	}
	_ = p.out.Encode(map[string]any{"svids": svids, "bundles": bundles})
}

func (p printer) OnX509ContextWatchError(err error) {
	_ = p.out.Encode(map[string]any{"error": err.Error()})
}

func watch(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("watch", flag.ContinueOnError)
	api := flags.String("workload-api", "", "address of the Workload API")
	if err := flags.Parse(args); err != nil {
		return err
	}
	err := workloadapi.WatchX509Context(ctx, printer{json.NewEncoder(os.Stdout)}, workloadapi.WithAddr(*api))
	if ctx.Err() != nil {
		return nil
	}
	return err
}
