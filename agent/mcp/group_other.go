//go:build !unix

package mcp

import "os/exec"

const groups = false

func ownGroup(*exec.Cmd)  {}
func killGroup(*exec.Cmd) {}
