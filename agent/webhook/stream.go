package webhook

import (
	"bufio"
	"bytes"
	"io"

	"bio/agent"
	"bio/agent/lines"
)

// stream reads at most limit bytes of server-sent events and emits the data of
// each as a line. Data that is too long for an object is read as the lines that it
// is made of, in pieces.
func stream(r io.Reader, limit int64, emit func(agent.Event) error) error {
	return messages(&capped{r, limit}, func(data []byte) error {
		if len(data) <= lines.MaxLine {
			return emit(lines.Parse(data))
		}
		line := append(data, '\n')
		return lines.Read(bytes.NewReader(line), int64(len(line)), emit)
	})
}

// messages calls emit with the data of each message of an event stream, as the
// HTML standard interprets one (§9.2.6). Other fields and comments are ignored, and
// so is a message that no blank line ends. It returns emit's error and r's, as they
// are. The data is emit's until it returns.
func messages(r io.Reader, emit func(data []byte) error) error {
	var (
		in           = bufio.NewReader(r)
		line, data   []byte
		first, after = true, false // the first line; after a CR, whose LF may follow
	)
	for {
		c, err := in.ReadByte()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
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
			line = bytes.TrimPrefix(line, []byte("\uFEFF"))
			first = false
		}
		if len(line) == 0 && len(data) > 0 {
			if err := emit(data[:len(data)-1]); err != nil {
				return err
			}
			data = data[:0]
		}
		if field, value, _ := bytes.Cut(line, []byte(":")); string(field) == "data" {
			data = append(data, bytes.TrimPrefix(value, []byte(" "))...)
			data = append(data, '\n')
		}
		line = line[:0]
	}
}

// capped is r until more than left bytes come.
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
