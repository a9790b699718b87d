// Package webhook makes an agent of a URL. A run is one POST of a
// [lines.Request], signed as Standard Webhooks has it; what the other side
// answers is shown as it comes. To run one, set BIO_AGENT to the URL, or
// register it in app/hook.go.
//
// The request has the headers webhook-id (the run's id, the same when it is sent
// again), webhook-timestamp (of this sending, in Unix seconds) and, when there is
// a secret, webhook-signature: "v1," and the base64 of the HMAC-SHA256 of
// "id.timestamp.body". The other side should compare signatures in constant time,
// refuse timestamps that are minutes away, and do the work of an id once.
//
// The answer has status 200. Of type text/event-stream it is server-sent events,
// and the data of each is a line as package lines reads it; of any other type it
// is JSON lines or plain text. Its header must come within a minute; how long the
// body may take is for the run's context.
//
// The request goes to the URL itself and nowhere else: no redirect is followed and
// no proxy of the environment is used. It does not go to addresses that are not
// public, whatever name they hide behind, unless that is allowed.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"bio/agent"
	"bio/agent/internal/outward"
	"bio/agent/internal/sse"
	"bio/agent/lines"
)

var (
	// ErrOptions says that no webhook can be made of the options.
	ErrOptions = errors.New("webhook: options that cannot be")
	// ErrAddress says that the URL leads to an address that is not allowed.
	ErrAddress = outward.ErrAddress
	// ErrConnect says that no connection could be made.
	ErrConnect = errors.New("webhook: no connection")
	// ErrStatus says that the answer's status is not 200.
	ErrStatus = errors.New("webhook: status")
	// ErrAnswer says that the answer did not come, is none, or broke off.
	ErrAnswer = errors.New("webhook: broken answer")
)

// headerTimeout is from the start of an attempt to the end of the answer's header.
const headerTimeout = time.Minute

// waits are the pauses before the second and the third attempt.
var waits = [...]time.Duration{time.Second, 3 * time.Second}

// Options say what to call, and how.
type Options struct {
	// URL is https; or, with AllowPrivate, http to a loopback address or to
	// localhost. Without user and password: the signature says who asks.
	URL string
	// Secret is the key that signs. One that begins with "whsec_" is the base64
	// that follows, any other is its bytes; an empty one does not sign.
	Secret []byte
	// Brief returns what the other side is told of the person, as Markdown. An error
	// fails the run. Nil: it is told nothing.
	Brief func(ctx context.Context, in *agent.Input) (string, error)
	// Limit is how many bytes an answer's body may have; [lines.DefaultLimit] when
	// it is not positive. Beyond it the run ends with [lines.ErrTooLong]. It counts
	// the body as it is sent; of what that says, a run keeps 256 KiB.
	Limit int64
	// AllowPrivate allows addresses that are not public.
	AllowPrivate bool
	// Log is told of attempts that are made again; nil: nobody is.
	Log *slog.Logger
	// Now is the clock of the timestamps; nil: [time.Now].
	Now func() time.Time
}

// New makes the agent. Its error wraps [ErrOptions].
//
// A run is tried at most three times, and again only where the other side cannot
// have begun to work: no connection was made, or it said 429 or 503, without a
// Retry-After of more than ten seconds.
func New(o Options) (agent.Agent, error) {
	h := &hook{
		brief: o.Brief,
		limit: o.Limit,
		log:   o.Log,
		now:   o.Now,
		wait:  outward.Wait,
	}
	if h.limit <= 0 {
		h.limit = lines.DefaultLimit
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.now == nil {
		h.now = time.Now
	}
	var err error
	if h.key, err = key(o.Secret); err != nil {
		return nil, err
	}
	target, allowed, err := outward.Target(o.URL, o.AllowPrivate)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	h.url, h.transport = target, outward.Transport(allowed)
	return h, nil
}

// key is the signing key of a secret.
func key(secret []byte) ([]byte, error) {
	encoded, ok := bytes.CutPrefix(secret, []byte("whsec_"))
	if !ok {
		return slices.Clone(secret), nil
	}
	key, err := base64.StdEncoding.DecodeString(string(encoded))
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("%w: after whsec_ the secret is not base64", ErrOptions)
	}
	return key, nil
}

type hook struct {
	url       *url.URL
	key       []byte
	brief     func(context.Context, *agent.Input) (string, error)
	limit     int64
	log       *slog.Logger
	now       func() time.Time
	wait      func(context.Context, time.Duration) error
	transport *http.Transport
}

// Run sends the request and yields the answer.
func (h *hook) Run(ctx context.Context, in *agent.Input) iter.Seq2[agent.Event, error] {
	return agent.Emit(h.run).Run(ctx, in)
}

func (h *hook) run(ctx context.Context, in *agent.Input, emit func(agent.Event) error) error {
	brief := ""
	if h.brief != nil {
		var err error
		if brief, err = h.brief(ctx, in); err != nil {
			return fmt.Errorf("webhook: brief: %w", err)
		}
	}
	body, err := json.Marshal(lines.NewRequest(in, brief))
	if err != nil {
		return fmt.Errorf("webhook: request: %w", err)
	}
	answer, err := h.ask(ctx, in, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); kind == "text/event-stream" {
		return stream(answer.Body, h.limit, emit)
	}
	return lines.Read(answer.Body, h.limit, emit)
}

// stream reads at most limit bytes of server-sent events and emits the data of
// each as a line. Data that is too long for an object is read as the lines that it
// is made of, in pieces.
func stream(r io.Reader, limit int64, emit func(agent.Event) error) error {
	for data, err := range sse.Events(sse.Cap(r, limit)) {
		switch {
		case err != nil:
		case len(data) <= lines.MaxLine:
			err = emit(lines.Parse(data))
		default:
			line := append(data, '\n')
			err = lines.Read(bytes.NewReader(line), int64(len(line)), emit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// again is an error after which the same request may be sent again.
type again struct {
	error
	after time.Duration // not before; 0: the other side did not say
}

func (a *again) Unwrap() error { return a.error }

// ask makes the attempts and returns the answer of the first that has one.
func (h *hook) ask(ctx context.Context, in *agent.Input, body []byte) (*http.Response, error) {
	for _, pause := range waits {
		answer, err := h.attempt(ctx, in, body)
		var a *again
		if !errors.As(err, &a) {
			return answer, err
		}
		pause = max(pause, a.after)
		h.log.WarnContext(ctx, "the webhook is asked again", "run", in.RunID, "error", err, "wait", pause)
		if err := h.wait(ctx, pause); err != nil {
			return nil, err
		}
	}
	return h.attempt(ctx, in, body)
}

// attempt sends the request. The answer that it returns has status 200, and a body
// that must be closed.
func (h *hook) attempt(ctx context.Context, in *agent.Input, body []byte) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(headerTimeout, func() {
		cancel(fmt.Errorf("%w: no header within %v", ErrAnswer, headerTimeout))
	})
	defer late.Stop()
	var connected atomic.Bool // before it is, nothing of the request was sent
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})

	// The transport itself, not a client: it follows no redirect and keeps no cookie.
	answer, err := h.transport.RoundTrip(h.request(in, body).WithContext(traced))
	if err != nil {
		defer cancel(nil)
		return nil, failure(ctx, err, connected.Load())
	}
	answer.Body = &bodyReader{answer.Body, ctx, cancel}
	if err := h.check(answer); err != nil {
		answer.Body.Close()
		return nil, err
	}
	return answer, nil
}

func (h *hook) request(in *agent.Input, body []byte) *http.Request {
	sent := h.now()
	header := make(http.Header)
	header.Set("Content-Type", "application/json")
	header.Set("Accept", "application/x-ndjson, text/event-stream, text/plain")
	header.Set("Accept-Encoding", "identity") // without it any encoding is acceptable (RFC 9110 §12.5.3)
	header.Set("User-Agent", "bio")
	header.Set("Webhook-Id", in.RunID)
	header.Set("Webhook-Timestamp", strconv.FormatInt(sent.Unix(), 10))
	if len(h.key) > 0 {
		header.Set("Webhook-Signature", sign(h.key, in.RunID, sent, body))
	}
	if in.TraceParent != "" {
		header.Set("Traceparent", in.TraceParent)
	}
	return &http.Request{
		Method:        http.MethodPost,
		URL:           h.url,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
	}
}

// sign is the signature of a body that is sent now, by the symmetric scheme of
// Standard Webhooks.
func sign(key []byte, id string, now time.Time, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.%s", id, now.Unix(), body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// check refuses an answer that is not to be read.
func (h *hook) check(answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		if encoding := answer.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
			return fmt.Errorf("%w: encoded, which was not asked for", ErrAnswer)
		}
		return nil
	}
	err := fmt.Errorf("%w %d", ErrStatus, answer.StatusCode)
	if after, ok := outward.Again(answer, h.now()); ok {
		return &again{err, after}
	}
	return err
}

// failure is what is said of a request that got no answer.
func failure(ctx context.Context, err error, connected bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	why := outward.Reason(err)
	if connected {
		return fmt.Errorf("%w: %w", ErrAnswer, why)
	}
	_, network := errors.AsType[net.Error](why)
	err = fmt.Errorf("%w: %w", ErrConnect, why)
	if network && !errors.Is(why, ErrAddress) || why == io.ErrUnexpectedEOF { // which may pass
		return &again{err, 0}
	}
	return err
}

// bodyReader is an answer's body whose errors may be logged.
type bodyReader struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case b.ctx.Err() != nil:
		return n, context.Cause(b.ctx)
	}
	return n, fmt.Errorf("%w: %w", ErrAnswer, outward.Reason(err))
}

func (b *bodyReader) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}
