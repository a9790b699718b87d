//go:build race

package store

import "flag"

func init() {
	thin = 20
	if err := flag.Set("rapid.checks", "5"); err != nil {
		panic(err)
	}
}
