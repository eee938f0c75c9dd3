// Command guestbook is the web application that `make run` runs in a container:
// it keeps entries in a file on a volume, logs every request, and ends cleanly
// when it is asked to.
package main

import (
	"context"
	"errors"
	"html/template"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

const file = "/data/entries"

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Guestbook</title>
<h1>Guestbook</h1>
<p>Served by container {{.Host}}, user {{.UID}}.</p>
<form method="post"><input name="entry" autofocus> <button>Sign</button></form>
<ol>{{range .Entries}}<li>{{.}}</li>{{end}}</ol>
</html>
`))

var mu sync.Mutex // one writer of the file at a time

func main() {
	http.HandleFunc("/", guestbook)
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 5 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
	}()
	log.Printf("guestbook listens on %s", server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	log.Print("guestbook ends")
}

func guestbook(w http.ResponseWriter, r *http.Request) {
	mu.Lock()
	defer mu.Unlock()
	log.Printf("%s %s from %s", r.Method, r.URL.Path, r.RemoteAddr)
	if r.Method == http.MethodPost {
		entry := strings.Join(strings.Fields(r.PostFormValue("entry")), " ")
		if entry == "" || len(entry) > 200 {
			http.Error(w, "an entry has 1 to 200 characters", http.StatusBadRequest)
			return
		}
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = f.WriteString(entry + "\n")
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	b, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	host, _ := os.Hostname()
	_ = page.Execute(w, map[string]any{"Host": host, "UID": os.Getuid(), "Entries": lines(string(b))})
}

func lines(s string) []string {
	if s = strings.TrimSpace(s); s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
