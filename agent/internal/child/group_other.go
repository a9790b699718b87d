//go:build !unix

package child

import "os/exec"

// Groups says whether the system has process groups.
const Groups = false

func Own(*exec.Cmd)  {}
func Kill(*exec.Cmd) {}
