// Package containers holds the use cases of containers: create, start, stop,
// attach, logs, exec and the rest, and the recovery after a crash. It decides;
// its ports (deps.go) do. A container's life is the pure table in state.go.
package containers
