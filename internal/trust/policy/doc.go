// Package policy reads the file that says which images need whose signature, and finds the rule for a name.
//
// The file is containers-policy.json(5), as podman and skopeo know it: a default, and rules for scopes of the transport
// "docker". What it demands is decided here; whether a signature is what it says is judged elsewhere.
//
//	{
//	  "default": [{"type": "insecureAcceptAnything"}],
//	  "transports": {"docker": {
//	    "registry.example.com/prod": [{
//	      "type": "sigstoreSigned", "keyPath": "/etc/gantry/keys/prod.pub",
//	      "signedIdentity": {"type": "matchRepository"}
//	    }]
//	  }}
//	}
//
// A file with anything in it that is not understood is refused as a whole: a rule that was misspelt would protect nothing.
package policy
