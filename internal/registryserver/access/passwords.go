package access

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gantry-engine/gantry/internal/kit/atomicfile"
)

// bcrypt takes its time, on purpose; a client sends its password with each request. So what was right is remembered for a while,
// under a key of this process.
const (
	rememberFor   = 5 * time.Minute
	maxRemembered = 10_000
	maxPassword   = 72 // bytes; bcrypt looks at no more
	cost          = 10
)

// Passwords are the users of an htpasswd file.
type Passwords struct {
	path  string
	key   [32]byte
	turns chan struct{} // bounds how many passwords are tried at a time

	mu    sync.RWMutex
	users map[string][]byte
	right map[[sha256.Size]byte]time.Time
}

// OpenPasswords reads an htpasswd file.
func OpenPasswords(path string) (*Passwords, error) {
	p := &Passwords{path: path, turns: make(chan struct{}, max(1, runtime.NumCPU()-1))}
	_, _ = rand.Read(p.key[:])
	return p, p.Reload()
}

// Reload reads the file again. One that cannot be read changes nothing.
func (p *Passwords) Reload() error {
	users, err := readUsers(p.path)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users, p.right = users, map[[sha256.Size]byte]time.Time{}
	return nil
}

func readUsers(path string) (map[string][]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the file of users: %w", err)
	}
	users := map[string][]byte{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if _, err := bcrypt.Cost([]byte(hash)); !ok || name == "" || err != nil {
			return nil, fmt.Errorf("line %d of %s: NAME:HASH with a bcrypt hash is needed (gantry registry user add, or htpasswd -B)", n, path)
		}
		users[name] = []byte(hash)
	}
	return users, lines.Err()
}

// nobody is compared with when a name is unknown, so that an unknown name takes as long as a wrong password.
var nobody = sync.OnceValue(func() []byte {
	b, _ := bcrypt.GenerateFromPassword([]byte("nobody"), cost)
	return b
})

// Check tells whether a password is a user's.
func (p *Passwords) Check(ctx context.Context, name, password string) bool {
	p.mu.RLock()
	hash, known := p.users[name]
	p.mu.RUnlock()
	mac := hmac.New(sha256.New, p.key[:])
	_, _ = fmt.Fprintf(mac, "%d:%s%d:%s%s", len(name), name, len(password), password, hash)
	key := [sha256.Size]byte(mac.Sum(nil))
	p.mu.RLock()
	until, right := p.right[key]
	p.mu.RUnlock()
	if right && time.Now().Before(until) {
		return true
	}
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-ctx.Done():
		return false
	}
	if !known {
		_ = bcrypt.CompareHashAndPassword(nobody(), []byte(password))
		return false
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.right) >= maxRemembered {
		clear(p.right)
	}
	p.right[key] = time.Now().Add(rememberFor)
	return true
}

// ListUsers gives the names in an htpasswd file, sorted.
func ListUsers(path string) ([]string, error) {
	users, err := readUsers(path)
	var names []string
	for name := range users {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, err
}

// SetUser adds a user to an htpasswd file, or gives him another password. The file is made if it is missing.
func SetUser(path, name, password string) error {
	if name == "" || strings.ContainsAny(name, ":\n\r") || strings.HasPrefix(name, "#") {
		return fmt.Errorf("%q can be no user's name: it is empty, has a colon or a line break, or begins with #", name)
	}
	if name == Everybody || name == AnyUser {
		return fmt.Errorf("%q can be no user's name: it has a meaning of its own in rights", name)
	}
	if password == "" || len(password) > maxPassword {
		return fmt.Errorf("a password of 1 to %d bytes is needed", maxPassword)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return err
	}
	return editUsers(path, name, name+":"+string(hash))
}

// RemoveUser takes a user out of an htpasswd file.
func RemoveUser(path, name string) error {
	users, err := readUsers(path)
	if err != nil {
		return err
	}
	if _, ok := users[name]; !ok {
		return fmt.Errorf("%s has no user %q", path, name)
	}
	return editUsers(path, name, "")
}

// editUsers replaces a user's line, and leaves all others as they are.
func editUsers(path, name, line string) error {
	mode := os.FileMode(0o600)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if st, err := os.Stat(path); err == nil {
		mode = st.Mode().Perm()
	}
	var out []string
	for l := range strings.Lines(string(b)) {
		l = strings.TrimRight(l, "\r\n")
		if n, _, _ := strings.Cut(strings.TrimSpace(l), ":"); n != name {
			out = append(out, l)
		} else if line != "" {
			out = append(out, line)
			line = ""
		}
	}
	if line != "" {
		out = append(out, line)
	}
	text := strings.Join(out, "\n")
	if text != "" {
		text += "\n"
	}
	return atomicfile.Write(path, []byte(text), mode)
}
