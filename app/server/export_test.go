package server

import (
	"context"
	"net/http"
)

// FirstOwner is the link that a start prints.
func FirstOwner(ctx context.Context, s *Server) (string, error) { return s.firstOwner(ctx) }

// Metrics is what a start serves on BIO_METRICS_LISTEN.
func Metrics(s *Server) http.Handler { return s.metrics.handler() }
