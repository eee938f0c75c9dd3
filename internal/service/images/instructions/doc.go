// Package instructions applies Dockerfile instructions to an image's configuration: what docker import and docker
// commit take as --change. It knows the language only, no image.
package instructions
