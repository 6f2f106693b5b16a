package access

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"net/http"
)

// style is the whole look of the gate's own pages; its digest is what the content
// security policy lets through.
const style = `:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:38rem;margin:12vh auto;padding:0 1rem}` +
	`h1{font-size:1.3rem}label{display:block;margin:.5rem 0}input,button{font:inherit;padding:.4rem .6rem}input{width:100%;box-sizing:border-box}.id{opacity:.6;font-size:.85rem}`

// writePage writes a page of the gate's own. title is text; head and body are HTML
// whose texts are escaped already.
func writePage(w http.ResponseWriter, status int, title, head, body string) {
	sum := sha256.Sum256([]byte(style))
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width, initial-scale=1\"><title>%s - gumshoe</title>%s<style>%s</style></head>\n<body><main>\n%s</main></body></html>\n",
		html.EscapeString(title), head, style, body)
}
