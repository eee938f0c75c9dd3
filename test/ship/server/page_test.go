package server

import (
	"context"
	"image/png"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gantry-engine/gantry/internal/testkit"
)

// browse opens a page in headless Chromium.
func browse(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	usual := []string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--user-data-dir=" + t.TempDir()}
	cmd := exec.CommandContext(ctx, "chromium", append(usual, args...)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium (Debian's package of that name) %q: %v", args, err)
	}
	return string(out)
}

// dom is a page's document after the browser has read it.
func dom(t *testing.T, url string) string { return browse(t, "--dump-dom", url) }

// stocked is a registry with users and some images.
func stocked(t *testing.T) *testkit.OwnRegistry {
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	addUser(t, users, "ann", "secret")
	addUser(t, users, "bob", "secret")
	config := filepath.Join(dir, "registry.yaml")
	text := "auth: {htpasswd: " + users + "}\nrights:\n- {repositories: ['**'], users: [ann], allow: [pull, push, delete]}\n- {repositories: ['team/**'], users: [bob], allow: [pull]}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := testkit.StartOwnRegistry(t, false, nil, "--config", config)
	c := of(r).as("ann", "secret")
	noise := func(n int, b byte) []byte { return []byte(strings.Repeat(string(rune('a'+b%26)), n)) }
	base, tools := noise(3_400_000, 1), noise(1_200_000, 2)
	by := []string{"debian bookworm, minimal", "RUN apt-get install -y ca-certificates curl", "COPY --chown=app server /usr/bin/server"}
	var children []ocispec.Descriptor
	for i, arch := range []string{"amd64", "arm64"} {
		d := c.image(t, "team/shop/web", "", by, base, tools, noise(800_000+i, byte(3+i)))
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		children = append(children, d)
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children}
	c.manifest(t, "team/shop/web", "1.4.2", ocispec.MediaTypeImageIndex, index)
	c.manifest(t, "team/shop/web", "latest", ocispec.MediaTypeImageIndex, index)
	c.image(t, "team/shop/web", "1.4.1", by, base, tools, noise(790_000, 9))
	c.image(t, "team/shop/db", "16", by[:1], base, noise(2_000_000, 10))
	c.image(t, "tools/lint", "2026-11", by[:1], base, noise(300_000, 11))
	return r
}

// The page lists and searches what its reader may see, in a browser without scripts.
func TestPage(t *testing.T) {
	r := stocked(t)
	as := func(user, path string) string { return "http://" + user + ":secret@" + r.Addr + path }
	of(r).want(t, http.StatusUnauthorized, "GET", "/", nil)
	of(r).want(t, http.StatusMethodNotAllowed, "POST", "/repo/team/shop/web", nil)
	of(r).as("bob", "secret").want(t, http.StatusForbidden, "GET", "/repo/tools/lint", nil)
	of(r).as("ann", "wrong").want(t, http.StatusUnauthorized, "GET", "/", nil)

	all := dom(t, as("ann", "/"))
	for _, want := range []string{"team/shop/web", "team/shop/db", "tools/lint", "MB", "viewport", ">ann<"} {
		if !strings.Contains(all, want) {
			t.Errorf("the list for ann lacks %q:\n%s", want, all)
		}
	}
	_, body := of(r).as("bob", "secret").want(t, 200, "GET", "/", nil)
	if strings.Contains(body, "tools/lint") || !strings.Contains(body, "team/shop/db") {
		t.Errorf("the list for bob:\n%s", body)
	}
	_, body = of(r).as("ann", "secret").want(t, 200, "GET", "/?q=web:1.4", nil)
	if !strings.Contains(body, "1.4.2") || strings.Contains(body, "latest") || strings.Contains(body, "<script") {
		t.Errorf("the search for web:1.4:\n%s", body)
	}
	_, repo := of(r).as("ann", "secret").want(t, 200, "GET", "/repo/team/shop/web", nil)
	if !strings.Contains(repo, "linux/amd64, linux/arm64") || !strings.Contains(repo, "1.4.1") {
		t.Errorf("the repository:\n%s", repo)
	}
	at := strings.Index(repo, "@sha256:")
	d := repo[at+1 : at+72]
	image := dom(t, as("bob", "/repo/team/shop/web@"+d))
	for _, want := range []string{d, "RUN apt-get install", "1.2 MB", "3.4 MB", "<meter"} {
		if !strings.Contains(image, want) {
			t.Errorf("the image lacks %q:\n%s", want, image)
		}
	}
	_, body = of(r).as("bob", "secret").want(t, 200, "GET", "/?q="+d[7:20], nil)
	if !strings.Contains(body, d) {
		t.Errorf("the search for a digest:\n%s", body)
	}
}

// The page is dark for who wants it dark, and no wider than a phone.
func TestPageAsPicture(t *testing.T) {
	r := stocked(t)
	url := "http://ann:secret@" + r.Addr + "/repo/team/shop/web"
	dir := t.TempDir()
	shot := func(name, url, size string, args ...string) string {
		file := filepath.Join(dir, name+".png")
		browse(t, append(args, "--window-size="+size, "--screenshot="+file, url)...)
		return file
	}
	_, body := of(r).as("ann", "secret").want(t, 200, "GET", "/repo/team/shop/web", nil)
	at := strings.Index(body, "@sha256:")
	light := shot("light", url, "900,420")
	dark := shot("dark", url+body[at:at+72], "900,640", "--blink-settings=preferredColorScheme=0")
	if l, d := brightness(t, light), brightness(t, dark); l < 60_000 || d > 10_000 {
		t.Errorf("the ground's brightness is %d in light mode, %d in dark mode, of 65535", l, d)
	}
	if os.Getenv("GANTRY_UPDATE_DOCS") == "" {
		return
	}
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"registry-light": light, "registry-dark": dark} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(root, "docs/img"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "docs/img", name+".png"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// brightness is that of a pixel of the page's ground.
func brightness(t *testing.T, file string) uint32 {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	red, green, blue, _ := p.At(5, p.Bounds().Dy()-5).RGBA()
	return (red + green + blue) / 3
}
