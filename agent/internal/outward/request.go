package outward

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter is how long the other side may ask to be left alone for: the person
// is waiting.
const maxRetryAfter = 10 * time.Second

// Again reports whether the request that got an answer may be sent again, for it
// was not begun: the answer is 429 or 503, without a Retry-After of more than ten
// seconds. The wait is what that asks for; 0: nothing.
func Again(answer *http.Response, now time.Time) (wait time.Duration, ok bool) {
	if answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	wait = retryAfter(answer.Header.Get("Retry-After"), now)
	return wait, wait <= maxRetryAfter
}

// retryAfter reads the value of a Retry-After (RFC 9110 §10.2.3): how long to wait
// from now on. 0: it does not say, or a time that has passed.
func retryAfter(value string, now time.Time) time.Duration {
	// 32 bits of seconds fit a Duration; what is out of their range becomes the most.
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// Wait returns after d, or with the cause when ctx is done.
func Wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errUnusable = errors.New("what came is no HTTP answer that can be used")

// Reason is why there is no answer, or why its body broke off: the error of a
// transport or of a body, without what it may repeat of what the other side wrote.
func Reason(err error) error {
	if network, ok := errors.AsType[net.Error](err); ok {
		return network
	}
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificate
	}
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok { // the other side does not speak TLS
		return record
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, context.Canceled):
		return context.Canceled
	}
	return errUnusable
}
