package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	"bio/agent"
)

var (
	Key    = key
	Sign   = sign
	Stream = stream
)

// Trust makes an agent of [New] trust the roots.
func Trust(a agent.Agent, roots *x509.CertPool) {
	a.(*hook).transport.TLSClientConfig = &tls.Config{RootCAs: roots}
}

// Wait makes an agent of [New] wait so between attempts.
func Wait(a agent.Agent, wait func(ctx context.Context, d time.Duration) error) {
	a.(*hook).wait = wait
}

// Dial makes an agent of [New] connect so.
func Dial(a agent.Agent, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	a.(*hook).transport.DialContext = dial
}
