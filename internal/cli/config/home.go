package config

import "path/filepath"

// Home is the client's directory during one run: its configuration and its contexts. Nothing is read before it is asked for.
type Home struct {
	Dir  string
	Warn func(error) // told why config.json cannot be used

	file *File
}

// Config is the client's configuration, read at the first call; an empty one where it cannot be read.
func (h *Home) Config() *File {
	if h.file == nil {
		f, err := Load(h.Dir)
		if err != nil {
			h.Warn(err)
		}
		h.file = f
	}
	return h.file
}

// Contexts is the store of contexts.
func (h *Home) Contexts() Contexts { return Contexts{dir: filepath.Join(h.Dir, "contexts")} }
