package images

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/gantry-engine/gantry/internal/kit/classed"
	"github.com/gantry-engine/gantry/internal/server/httpapi"
	"github.com/gantry-engine/gantry/internal/service/images"
)

// Signatures are no part of Docker's API. Which are good is for clients and the image policy to judge: these two endpoints
// carry them, so that clients need no way to registries of their own.
//
//	GET  /images/{name}/signatures?local=1     → images.Signatures
//	POST /images/{name}/signatures?local=1     {"Digest": "sha256:…", "Bundle": {…}} → 201 {"Manifest": "sha256:…"}
//
// Without local the registry is asked, with the credentials of X-Registry-Auth.

// maxBundle bounds a bundle that a client sends, in bytes.
const maxBundle = 2 << 20

func (r *Router) signatures(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	out, err := r.s.Signatures(ctx, images.SignatureOptions{Image: vars["name"], Local: httpapi.Bool(req, "local"), Auth: httpapi.RegistryAuth(req)})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusOK, out)
}

func (r *Router) attach(ctx context.Context, w http.ResponseWriter, req *http.Request, vars httpapi.Vars) error {
	var body struct {
		Digest digest.Digest
		Bundle json.RawMessage
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBundle)).Decode(&body); err != nil {
		return classed.Invalid("the body is not the JSON it should be: %v", err)
	}
	d, err := r.s.Attach(ctx, images.AttachOptions{
		Image: vars["name"], Digest: body.Digest, Bundle: body.Bundle, Local: httpapi.Bool(req, "local"), Auth: httpapi.RegistryAuth(req),
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(w, http.StatusCreated, map[string]digest.Digest{"Manifest": d})
}
