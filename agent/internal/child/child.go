// Package child is what programs that the server starts have in common: a process
// group of their own, a clean environment, and last words for the log.
package child

import (
	"os"
	"time"
)

// Grace is how long a program has to end once it should, each time it is told, and
// its output to end once it has.
const Grace = time.Second

// lastWords is how much of standard error is kept for the log, in bytes.
const lastWords = 8 << 10

// Environment is all that a program sees of the server's.
func Environment() []string {
	env := []string{} // nil would be all of it
	for _, name := range []string{"PATH", "HOME", "LANG"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// Tail keeps the last 8 KiB of what is written to it.
type Tail []byte

func (t *Tail) Write(b []byte) (int, error) {
	*t = append(*t, b[max(0, len(b)-lastWords):]...)
	*t = append((*t)[:0], (*t)[max(0, len(*t)-lastWords):]...)
	return len(b), nil
}
