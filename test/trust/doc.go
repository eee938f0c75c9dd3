// Package trust holds the tests of signatures and image policies from end to end: two engines, one that builds and signs and
// one that demands signatures, with registries between them that are honest, old, or lie.
package trust
