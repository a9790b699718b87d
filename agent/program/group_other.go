//go:build !unix

package program

import "os/exec"

const groups = false

func ownGroup(*exec.Cmd)  {}
func killGroup(*exec.Cmd) {}
