package create

import (
	"fmt"
	"os"
)

// cidFile is the file of --cidfile, taken before and filled after the container exists.
type cidFile struct {
	path string
	f    *os.File
}

func openCIDFile(path string) (*cidFile, error) {
	if path == "" {
		return &cidFile{}, nil
	}
	if _, err := os.Stat(path); err == nil {
		return nil, fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", path)
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("failed to create the container ID file: %w", err)
	}
	return &cidFile{path: path, f: f}, nil
}

func (c *cidFile) write(id string) error {
	if c.f == nil {
		return nil
	}
	if _, err := c.f.WriteString(id); err != nil {
		return fmt.Errorf("failed to write the container ID (%s) to file: %w", id, err)
	}
	err := c.f.Close()
	c.f = nil
	return err
}

// abandon removes a file that was never filled.
func (c *cidFile) abandon() {
	if c.f != nil {
		c.f.Close()
		os.Remove(c.path)
	}
}
