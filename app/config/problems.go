package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one bad setting. Its sentences never hold the setting's value.
type Problem struct {
	Setting string // the variable as it was set, such as "BIO_SECRET_FILE"
	Wrong   string // what is wrong; a predicate, such as "is not a port"
	Mend    string // what to do, in whole sentences
}

func (p Problem) String() string {
	return fmt.Sprintf("%s %s. %s", p.Setting, p.Wrong, p.Mend)
}

// Problems are all bad settings of one environment, in the order of Table,
// then those that are no settings at all, by name.
type Problems []Problem

// Error lists the problems, one a line.
func (p *Problems) Error() string {
	var b strings.Builder
	if len(*p) == 1 {
		b.WriteString("one setting needs mending:")
	} else {
		fmt.Fprintf(&b, "%d settings need mending:", len(*p))
	}
	for _, one := range *p {
		b.WriteString("\n  ")
		b.WriteString(one.String())
	}
	return b.String()
}

func (p Problems) sort() {
	place := func(name string) int {
		for i, row := range table {
			if name == row.Name || row.Secret && name == row.Name+fileSuffix || name == "PORT" && row.Name == "BIO_LISTEN" {
				return i
			}
		}
		return len(table)
	}
	slices.SortStableFunc(p, func(a, b Problem) int {
		if d := place(a.Setting) - place(b.Setting); d != 0 || place(a.Setting) < len(table) {
			return d
		}
		return strings.Compare(a.Setting, b.Setting)
	})
}
