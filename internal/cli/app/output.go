package app

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// FileOutput is where an archive goes: standard output, or a file that appears only when it is complete.
type FileOutput struct {
	w    io.Writer
	tmp  *os.File
	path string
}

// CreateOutput opens the output for a path; empty is standard output.
func (a *App) CreateOutput(path string) (*FileOutput, error) {
	if path == "" {
		return &FileOutput{w: a.Out}, nil
	}
	dir := filepath.Dir(path)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("invalid output path: directory %q does not exist", dir)
	}
	if st, err := os.Stat(path); err == nil {
		if st.IsDir() {
			return nil, fmt.Errorf("invalid output path: %q must be a file, not a directory", path)
		}
		if !st.Mode().IsRegular() { // a device or a pipe is written to as it is
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			return &FileOutput{w: f}, err
		}
	}
	tmp, err := os.CreateTemp(dir, ".tmp-")
	if err != nil {
		return nil, err
	}
	return &FileOutput{w: tmp, tmp: tmp, path: path}, nil
}

// Fill copies everything and puts the file in its place.
func (o *FileOutput) Fill(r io.Reader) error {
	if _, err := io.Copy(o.w, r); err != nil {
		return err
	}
	if o.tmp == nil {
		return nil
	}
	if err := o.tmp.Close(); err != nil {
		return err
	}
	err := os.Rename(o.tmp.Name(), o.path)
	if err == nil {
		o.tmp = nil
	}
	return err
}

// Discard removes what Fill did not finish.
func (o *FileOutput) Discard() {
	if o.tmp != nil {
		o.tmp.Close()
		os.Remove(o.tmp.Name())
	}
}
