// Package oci runs the validation programs of opencontainers/runtime-tools
// against gantry-runtime and, as the reference, against the installed runc.
package oci
