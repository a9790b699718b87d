package views

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

const (
	// What is shown of a table, and of a list.
	maxColumns = 12
	maxRows    = 100
	// maxTree is how deep values are shown as trees; deeper ones are JSON.
	maxTree = 8
	// maxLine is how long a list is that is shown in a line, in bytes.
	maxLine = 60
	// How many members an object or a list has, and how deep it is, that is open
	// at first.
	maxSmall = 5
	maxOpen  = 3
)

// value is a JSON value, its members in their order.
type value struct {
	kind  valueKind
	text  string // of a scalar, as it stands in the JSON; of a string, what it says
	keys  []string
	items []value // of an array; of an object, one for each of keys
}

type valueKind uint8

const (
	scalar valueKind = iota
	number
	null
	array
	object
)

// readValue reads one JSON value. It is not ok when data is something else.
func readValue(data []byte) (v value, ok bool) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := decode(d, 0)
	if err != nil {
		return value{}, false
	}
	_, err = d.Token()
	return v, err == io.EOF
}

func decode(d *json.Decoder, depth int) (value, error) {
	if depth > maxTree {
		var raw json.RawMessage
		err := d.Decode(&raw)
		return value{text: legible(string(raw))}, err
	}
	token, err := d.Token()
	if err != nil {
		return value{}, err
	}
	switch token := token.(type) {
	case json.Delim:
		v := value{kind: array}
		if token == '{' {
			v.kind = object
		}
		for d.More() {
			if v.kind == object {
				key, err := d.Token()
				if err != nil {
					return value{}, err
				}
				v.keys = append(v.keys, legible(key.(string)))
			}
			item, err := decode(d, depth+1)
			if err != nil {
				return value{}, err
			}
			v.items = append(v.items, item)
		}
		_, err = d.Token()
		return v, err
	case json.Number:
		return value{kind: number, text: token.String()}, nil
	case string:
		return value{text: legible(token)}, nil
	case bool:
		return value{text: strconv.FormatBool(token)}, nil
	default:
		return value{kind: null, text: "null"}, nil
	}
}

// line is a list of scalars that is short enough for one.
func (v value) line() (string, bool) {
	if v.kind != array || len(v.items) == 0 || len(v.items) > maxLine {
		return "", false
	}
	texts := make([]string, len(v.items))
	for i, item := range v.items {
		if item.kind == array || item.kind == object || item.text == "" {
			return "", false
		}
		texts[i] = item.text
	}
	line := strings.Join(texts, ", ")
	return line, len(line) <= maxLine
}

// small reports whether v has a few parts, each of which is a line at most: so
// little that to fold it hides more than it tidies.
func (v value) small() bool {
	return len(v.items) <= maxSmall && !slices.ContainsFunc(v.items, func(item value) bool {
		_, line := item.line()
		return !line && (len(item.items) > 0 || len(item.text) > maxLine)
	})
}

// size says in words how much there is in an array or an object.
func (v value) size() string {
	if v.kind == object {
		return count(len(v.items), "field")
	}
	return count(len(v.items), "entry")
}

// count is a number and a noun.
func count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case noun == "entry":
		return fmt.Sprint(n, " entries")
	}
	return fmt.Sprint(n, " ", noun, "s")
}

// grid is an array of objects as a table.
type grid struct {
	columns []column
	rows    [][]*value // nil where an object has no such member
	more    []string   // what is not shown: "5 more rows"
}

type column struct {
	name    string
	numbers bool // there is nothing else in it, but null
}

// grid lays an array out as a table, when it has objects only.
func (v value) grid() (g grid, ok bool) {
	if v.kind != array || len(v.items) == 0 || slices.ContainsFunc(v.items, func(row value) bool { return row.kind != object }) {
		return grid{}, false
	}
	at := map[string]int{}
	for _, row := range v.items {
		for _, key := range row.keys {
			if _, there := at[key]; !there {
				at[key] = len(at)
				if len(g.columns) < maxColumns {
					g.columns = append(g.columns, column{key, true})
				}
			}
		}
	}
	for _, row := range v.items[:min(len(v.items), maxRows)] {
		cells := make([]*value, len(g.columns))
		for i, key := range row.keys {
			if column := at[key]; column < maxColumns {
				cells[column] = &row.items[i]
				if kind := row.items[i].kind; kind != number && kind != null {
					g.columns[column].numbers = false
				}
			}
		}
		g.rows = append(g.rows, cells)
	}
	if n := len(v.items) - maxRows; n > 0 {
		g.more = append(g.more, count(n, "more row"))
	}
	if n := len(at) - maxColumns; n > 0 {
		g.more = append(g.more, count(n, "more column"))
	}
	return g, len(g.columns) > 0
}
