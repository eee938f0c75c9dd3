package dockerroot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Volume is a volume with where its content is.
type Volume struct {
	Name    string
	Driver  string
	Options map[string]string
	Labels  map[string]string
	// Data is the folder with the content; empty where the content is elsewhere: a mount by options, another driver.
	Data string
}

const localDriver = "local"

// Volumes lists the volumes: folders of the local driver, and what the database knows of others'.
func (r *Root) Volumes() (list []Volume, problems []Problem) {
	at := filepath.Join(r.Path, "volumes")
	known := map[string]Volume{}
	err := each(filepath.Join(at, "metadata.db"), "volumes", func(k, v []byte) {
		var meta Volume
		if err := json.Unmarshal(v, &meta); err != nil || meta.Name != string(k) {
			problems = append(problems, Problem{"volume", string(k), errors.New("its record is not the JSON it should be")})
			return
		}
		meta.Data = ""
		known[meta.Name] = meta
	})
	if err != nil {
		problems = append(problems, Problem{"volume", "(labels of all)", err})
	}
	entries, err := os.ReadDir(at)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		problems = append(problems, Problem{"volume", "(all)", err})
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		v, err := localVolume(filepath.Join(at, e.Name()), known[e.Name()])
		if err != nil {
			problems = append(problems, Problem{"volume", e.Name(), err})
		} else {
			list = append(list, v)
		}
		delete(known, e.Name())
	}
	for _, v := range known {
		if v.Driver == localDriver || v.Driver == "" {
			problems = append(problems, Problem{"volume", v.Name, errors.New("its folder is missing")})
			continue
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return list, problems
}

// localVolume completes what the database knows about a volume of the local driver by what its folder has.
func localVolume(dir string, v Volume) (Volume, error) {
	v.Name, v.Driver = filepath.Base(dir), localDriver
	var opts struct {
		MountType, MountOpts, MountDevice string
		Quota                             struct{ Size uint64 }
	}
	switch err := readJSON(filepath.Join(dir, "opts.json"), &opts); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return v, err
	case v.Options == nil:
		v.Options = map[string]string{}
		for k, o := range map[string]string{"type": opts.MountType, "o": opts.MountOpts, "device": opts.MountDevice} {
			if o != "" {
				v.Options[k] = o
			}
		}
		if opts.Quota.Size > 0 {
			v.Options["size"] = fmt.Sprint(opts.Quota.Size)
		}
	}
	if opts.MountDevice != "" || opts.MountType != "" {
		return v, nil
	}
	v.Data = filepath.Join(dir, "_data")
	st, err := os.Lstat(v.Data)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is not a folder", v.Data)
	}
	return v, err
}
