// Package sse reads server-sent events.
package sse

import (
	"bufio"
	"bytes"
	"io"
	"iter"

	"bio/agent/lines"
)

// MaxEvent bounds an event, and a line, in bytes: a megabyte of text in JSON's
// longest spelling fits.
const MaxEvent = 8 << 20

// Events yields the data of each event as it comes, as the HTML standard interprets
// a stream (§9.2.6); it is good until the next. Other fields and comments are
// ignored, and so is an event that no blank line ends. The last thing yielded is an
// error, if there is one: r's as it is, or [lines.ErrTooLong] for what is longer
// than [MaxEvent].
func Events(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		in := bufio.NewReader(r)
		var line, data []byte
		for first, after := true, false; ; { // the first line; after a CR, whose LF may follow
			c, err := in.ReadByte()
			if err == nil && len(line)+len(data) > MaxEvent {
				err = lines.ErrTooLong
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			half := after && c == '\n'
			after = c == '\r'
			if half {
				continue
			}
			if c != '\r' && c != '\n' {
				line = append(line, c)
				continue
			}
			if first {
				line, first = bytes.TrimPrefix(line, []byte("\uFEFF")), false
			}
			if len(line) == 0 && len(data) > 0 {
				if !yield(data[:len(data)-1], nil) {
					return
				}
				data = data[:0]
			}
			if field, value, _ := bytes.Cut(line, []byte(":")); string(field) == "data" {
				data = append(append(data, bytes.TrimPrefix(value, []byte(" "))...), '\n')
			}
			line = line[:0]
		}
	}
}

// Cap is r until more than n bytes come, which is [lines.ErrTooLong].
func Cap(r io.Reader, n int64) io.Reader { return &capped{r, n} }

type capped struct {
	r    io.Reader
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if int64(n) > c.left {
		n, err = int(c.left), lines.ErrTooLong
	}
	c.left -= int64(n)
	return n, err
}
