package mcp

import (
	"context"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

var (
	ModelName = modelName
	Result    = result
)

const (
	MaxMessage = maxMessage
	MaxTools   = maxTools
	MaxTool    = maxTool
)

// Proxied reports whether requests to the server go where the environment says.
func Proxied(s Server) bool {
	client, err := newClient(s)
	return err != nil || client.Transport.(*requests).transport.Proxy != nil
}

// Dial makes one of the servers of t connect so.
func Dial(t *Tools, server string, dial func(context.Context) (sdk.Connection, error)) {
	t.find(server).dial = dial
}
