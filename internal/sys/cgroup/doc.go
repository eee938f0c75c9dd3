// Package cgroup finds the host's control group hierarchies (v1, v2, hybrid),
// makes a container's directories in them, and hands limits, counters, freezing and removal to
// opencontainers/cgroups. Only what is asked for is written.
package cgroup
