package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// tlsFlags are the files of one side's TLS; without them it speaks in clear.
type tlsFlags struct {
	cert, key, ca *string
}

func addTLSFlags(flags *flag.FlagSet) tlsFlags {
	return tlsFlags{
		cert: flags.String("cert", "", "own certificate chain, PEM"),
		key:  flags.String("key", "", "own key, PEM"),
		ca:   flags.String("ca", "", "authorities the other side must come from, PEM"),
	}
}

func (f tlsFlags) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if *f.cert != "" {
		pair, err := tls.LoadX509KeyPair(*f.cert, *f.key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if *f.ca != "" {
		pem, err := os.ReadFile(*f.ca)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificates in %s", *f.ca)
		}
		config.ClientCAs, config.RootCAs = pool, pool
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return config, nil
}

func (f tlsFlags) server() (credentials.TransportCredentials, error) {
	if *f.cert == "" {
		return insecure.NewCredentials(), nil
	}
	config, err := f.config()
	return credentials.NewTLS(config), err
}

// client verifies the chain and, as SPIFFE has it, no host name.
func (f tlsFlags) client() (credentials.TransportCredentials, error) {
	if *f.ca == "" {
		return insecure.NewCredentials(), nil
	}
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	roots := config.RootCAs
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		intermediates := x509.NewCertPool()
		for _, cert := range state.PeerCertificates[1:] {
			intermediates.AddCert(cert)
		}
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates})
		return err
	}
	return credentials.NewTLS(config), nil
}
