package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func init() {
	commands["tls-server"] = command{"greet each TLS peer with the ID and serial number it came with, if any", tlsServer}
	commands["tls-client"] = command{"dial again and again; print who answered, and the greeting", tlsClient}
}

// spiffeFlags are what both sides need: where the identity comes from, and whom to accept.
func spiffeFlags(name string, args []string, more func(*flag.FlagSet)) (*workloadapi.X509Source, tlsconfig.Authorizer, error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	api := flags.String("workload-api", "", "address of the Workload API")
	accept := flags.String("accept", "", "SPIFFE ID of the peer")
	more(flags)
	if err := flags.Parse(args); err != nil {
		return nil, nil, err
	}
	peer, err := spiffeid.FromString(*accept)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(*api)))
	return source, tlsconfig.AuthorizeID(peer), err
}

// serverConfig is one of go-spiffe's configurations for servers; web is what a web server presents.
func serverConfig(mode string, source *workloadapi.X509Source, accept tlsconfig.Authorizer, web tlsFlags) (*tls.Config, error) {
	switch mode {
	case "mtls":
		return tlsconfig.MTLSServerConfig(source, source, accept), nil
	case "tls":
		return tlsconfig.TLSServerConfig(source), nil
	case "mtls-web":
		pair, err := tls.LoadX509KeyPair(*web.cert, *web.key)
		return tlsconfig.MTLSWebServerConfig(&pair, source, accept), err
	}
	return nil, fmt.Errorf("no mode %q", mode)
}

// clientConfig is one of go-spiffe's configurations for clients; web are the authorities of a web server.
func clientConfig(mode string, source *workloadapi.X509Source, accept tlsconfig.Authorizer, web tlsFlags) (*tls.Config, error) {
	switch mode {
	case "mtls":
		return tlsconfig.MTLSClientConfig(source, source, accept), nil
	case "tls":
		return tlsconfig.TLSClientConfig(source, accept), nil
	case "mtls-web":
		pem, err := os.ReadFile(*web.ca)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		return tlsconfig.MTLSWebClientConfig(source, roots), nil
	}
	return nil, fmt.Errorf("no mode %q", mode)
}

// seen is what one side tells of the other.
type seen struct {
	Peer   string `json:"peer"`
	Serial string `json:"serial"`
	Said   string `json:"said,omitempty"`
	Error  string `json:"error,omitempty"`
}

func look(state tls.ConnectionState) seen {
	if len(state.PeerCertificates) == 0 {
		return seen{}
	}
	if names := state.PeerCertificates[0].DNSNames; len(state.PeerCertificates[0].URIs) == 0 && len(names) > 0 {
		return seen{Peer: names[0], Serial: state.PeerCertificates[0].SerialNumber.String()}
	}
	id, err := spiffetls.PeerIDFromConnectionState(state)
	if err != nil {
		return seen{Error: err.Error()}
	}
	return seen{Peer: id.String(), Serial: state.PeerCertificates[0].SerialNumber.String()}
}

func tlsServer(ctx context.Context, args []string) error {
	var mode *string
	var web tlsFlags
	source, accept, err := spiffeFlags("tls-server", args, func(flags *flag.FlagSet) {
		mode = flags.String("mode", "mtls", "mtls, tls (ask for nothing) or mtls-web (present -cert and -key)")
		web = addTLSFlags(flags)
	})
	if err != nil {
		return err
	}
	defer source.Close()
	config, err := serverConfig(*mode, source, accept, web)
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		listener.Close()
	}()
	fmt.Println("READY", listener.Addr())
	out := json.NewEncoder(os.Stdout)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return nil
		}
		greet(ctx, conn.(*tls.Conn), out)
	}
}

func greet(ctx context.Context, conn *tls.Conn, out *json.Encoder) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = out.Encode(seen{Error: err.Error()})
		return
	}
	_ = json.NewEncoder(conn).Encode(look(conn.ConnectionState()))
}

func tlsClient(ctx context.Context, args []string) error {
	var target, mode, name *string
	var pause *time.Duration
	var web tlsFlags
	source, accept, err := spiffeFlags("tls-client", args, func(flags *flag.FlagSet) {
		target = flags.String("target", "", "host:port")
		pause = flags.Duration("pause", 50*time.Millisecond, "between two connections")
		mode = flags.String("mode", "mtls", "mtls, tls (present nothing) or mtls-web (verify by -ca and -name)")
		name = flags.String("name", "", "host name that a web server must have")
		web = addTLSFlags(flags)
	})
	if err != nil {
		return err
	}
	defer source.Close()
	config, err := clientConfig(*mode, source, accept, web)
	if err != nil {
		return err
	}
	config.ServerName = *name
	out := json.NewEncoder(os.Stdout)
	for ctx.Err() == nil {
		_ = out.Encode(dial(ctx, *target, config))
		time.Sleep(*pause)
	}
	return nil
}

func dial(ctx context.Context, target string, config *tls.Config) seen {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: config}
	raw, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		return seen{Error: err.Error()}
	}
	defer raw.Close()
	conn := raw.(*tls.Conn)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	found := look(conn.ConnectionState())
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		found.Error = err.Error()
	}
	found.Said = line
	return found
}
