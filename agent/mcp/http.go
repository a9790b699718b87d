package mcp

import (
	"fmt"
	"io"
	"net/http"

	"bio/agent/internal/outward"
)

// newClient makes what sends requests to a server's URL. Its errors do not repeat
// the URL, for many have a secret in them.
func newClient(o Server) (*http.Client, error) {
	_, allowed, err := outward.Target(o.URL, o.AllowPrivate)
	if err != nil {
		return nil, err
	}
	transport := outward.Transport(allowed)
	transport.DisableCompression = true // it could be a bomb
	return &http.Client{
		Transport: &requests{o.Key, transport},
		// The key and the model's words are for this server only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// requests sends requests, and keeps what the MCP library does not say of them.
type requests struct {
	key       string
	transport *http.Transport
}

func (r *requests) RoundTrip(request *http.Request) (*http.Response, error) {
	x, ok := request.Context().Value(exchanging{}).(*exchange)
	if !ok {
		x = new(exchange) // nobody asks
	}
	request = request.Clone(request.Context())
	request.Header.Set("User-Agent", "bio")
	if r.key != "" {
		request.Header.Set("Authorization", "Bearer "+r.key)
	}
	answer, err := r.transport.RoundTrip(request)
	if err != nil {
		x.set(fmt.Errorf("%w: %w", ErrUnreachable, outward.Reason(err)), 0)
		return nil, err
	}
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		x.set(nil, 0)
	} else {
		// A server that does not know the session must say 404, and many say 400.
		// For the library it is only a session that is gone when the body is not JSON.
		status := answer.StatusCode
		if request.Header.Get("Mcp-Session-Id") == "" {
			status = 0
		}
		x.set(fmt.Errorf("%w %d", ErrStatus, answer.StatusCode), status)
	}
	answer.Body = &body{answer.Body, maxMessage, x}
	return answer, nil
}

// body is an answer's body that does not go on for ever.
type body struct {
	io.ReadCloser
	room int // for so many bytes
	x    *exchange
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.room -= n; b.room < 0 {
		n, err = 0, fmt.Errorf("%w: longer than %d bytes", ErrAnswer, maxMessage)
		b.x.set(err, 0)
		return n, err
	}
	if err != nil && err != io.EOF {
		b.x.set(fmt.Errorf("%w: %w", ErrAnswer, outward.Reason(err)), 0)
	}
	return n, err
}
