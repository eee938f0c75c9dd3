// Package conformance judges registries by the cases of internal/testkit/conformance, and keeps the page that shows them
// side by side: docs/registry-conformance.md.
package conformance
