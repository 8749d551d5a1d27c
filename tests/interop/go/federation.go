package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func init() {
	commands["bundle-fetch"] = command{"fetch the bundle of an endpoint once; print it as a document", bundleFetch}
	commands["bundle-watch"] = command{"follow an endpoint; print a line for each new bundle", bundleWatch}
	commands["bundle-serve"] = command{"serve a bundle file as go-spiffe does; the file is read anew for each request", bundleServe}
}

type bundleFlags struct {
	*flag.FlagSet
	domain, url, id, bundle, roots *string
}

func newBundleFlags(name string) bundleFlags {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	return bundleFlags{
		set,
		set.String("trust-domain", "", "whose bundle it is"),
		set.String("url", "", "the endpoint"),
		set.String("id", "", "SPIFFE ID of the endpoint, for https_spiffe"),
		set.String("bundle", "", "first bundle of the endpoint's trust domain, for https_spiffe"),
		set.String("roots", "", "PEM file of web authorities, for https_web"),
	}
}

// option tells FetchBundle whom to believe. The first bundle is kept: go-spiffe leaves it to its user to renew it.
func (f bundleFlags) option() (federation.FetchOption, error) {
	if *f.roots != "" {
		data, err := os.ReadFile(*f.roots)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(data) {
			return nil, errors.New("no certificate in the roots")
		}
		return federation.WithWebPKIRoots(pool), nil
	}
	id, err := spiffeid.FromString(*f.id)
	if err != nil {
		return nil, err
	}
	first, err := spiffebundle.Load(id.TrustDomain(), *f.bundle)
	if err != nil {
		return nil, err
	}
	return federation.WithSPIFFEAuth(first, id), nil
}

func bundleFetch(ctx context.Context, args []string) error {
	flags := newBundleFlags("bundle-fetch")
	if err := flags.Parse(args); err != nil {
		return err
	}
	domain, err := spiffeid.TrustDomainFromString(*flags.domain)
	if err != nil {
		return err
	}
	option, err := flags.option()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	bundle, err := federation.FetchBundle(ctx, domain, *flags.url, option)
	if err != nil {
		return err
	}
	data, err := bundle.Marshal()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(data, '\n'))
	return err
}

type bundlePrinter struct{ out *json.Encoder }

func (p bundlePrinter) NextRefresh(time.Duration) time.Duration { return 50 * time.Millisecond }

func (p bundlePrinter) OnUpdate(bundle *spiffebundle.Bundle) {
	number, _ := bundle.SequenceNumber()
	hint, _ := bundle.RefreshHint()
	_ = p.out.Encode(map[string]any{
		"sequence": number, "hint": hint.Seconds(), "x509": len(bundle.X509Authorities()), "jwt": len(bundle.JWTAuthorities()),
	})
}

func (p bundlePrinter) OnError(err error) { _ = p.out.Encode(map[string]any{"error": err.Error()}) }

func bundleWatch(ctx context.Context, args []string) error {
	flags := newBundleFlags("bundle-watch")
	if err := flags.Parse(args); err != nil {
		return err
	}
	domain, err := spiffeid.TrustDomainFromString(*flags.domain)
	if err != nil {
		return err
	}
	option, err := flags.option()
	if err != nil {
		return err
	}
	err = federation.WatchBundle(ctx, domain, *flags.url, bundlePrinter{json.NewEncoder(os.Stdout)}, option)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// fileBundles reads the document for each request, so that a test changes it as it likes.
type fileBundles struct{ path string }

func (f fileBundles) GetBundleForTrustDomain(domain spiffeid.TrustDomain) (*spiffebundle.Bundle, error) {
	return spiffebundle.Load(domain, f.path)
}

func bundleServe(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bundle-serve", flag.ContinueOnError)
	name := flags.String("trust-domain", "", "whose bundle it is")
	document := flags.String("bundle", "", "the bundle document")
	chain := flags.String("cert", "", "PEM chain of the server")
	key := flags.String("key", "", "PEM key of the server")
	web := flags.Bool("web", false, "https_web; https_spiffe otherwise")
	if err := flags.Parse(args); err != nil {
		return err
	}
	domain, err := spiffeid.TrustDomainFromString(*name)
	if err != nil {
		return err
	}
	handler, err := federation.NewHandler(domain, fileBundles{*document})
	if err != nil {
		return err
	}
	var config *tls.Config
	if *web {
		pair, err := tls.LoadX509KeyPair(*chain, *key)
		if err != nil {
			return err
		}
		config = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	} else {
		svid, err := x509svid.Load(*chain, *key)
		if err != nil {
			return err
		}
		config = tlsconfig.TLSServerConfig(svid)
	}
	config.NextProtos = []string{"h2", "http/1.1"}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var served atomic.Int64
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			handler.ServeHTTP(w, r)
		}),
		TLSConfig: config,
	}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	fmt.Println("READY", listener.Addr())
	err = server.ServeTLS(listener, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		fmt.Println("SERVED", served.Load())
		return nil
	}
	return err
}
