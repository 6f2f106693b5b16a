package mcpserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/gumshoe-ai/gumshoe/integrations/access"
)

// Serve speaks over a pair of streams, one JSON-RPC message a line, until in ends or
// ctx does. Whoever started the process is the caller: they may ask and propose, in
// the name that the cluster knows them by.
//
// A line that is no message is answered with an error and does not end the
// conversation. The end of the input is the ordinary end and no error: what was asked
// before it is answered first, for as long as a call may wait (see Config.Wait), so that
// a here-document is served too. When ctx ends first, a read of in that is under way is
// left behind: nothing can interrupt it.
func (s *Server) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx = access.With(ctx, access.Identity{Role: access.Asker, Local: true})
	open := newPending()
	w := &lines{w: out, open: open}
	pr, pw := io.Pipe()
	go func() {
		err := sieve(in, pw, w, s.cfg.maxRequest(), open)
		// The SDK cancels what runs once its reader ends.
		if errors.Is(err, io.EOF) {
			open.wait(s.cfg.wait() + lastWord)
		}
		pw.CloseWithError(err)
	}()
	// The sieve bounds a line already.
	err := s.mcp.Run(ctx, &sdk.IOTransport{Reader: pr, Writer: w, MaxLineLength: -1})
	open.abandon()
	_ = pr.Close() // whoever still reads for nobody ends with the next line
	if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		return fmt.Errorf("mcp over standard input: %w", err)
	}
	return nil
}

// lastWord is how long an answer may take on top of what its call waits.
const lastWord = 30 * time.Second

// lines writes whole messages, one at a time.
type lines struct {
	mu sync.Mutex
	w  io.Writer
	// open learns what was answered.
	open *pending
}

// Write implements io.Writer; p is one message with its end of line.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.w.Write(p)
	if err != nil {
		l.open.abandon() // nobody reads what is still to be said
		return n, err
	}
	if msg, err := jsonrpc.DecodeMessage(bytes.TrimSpace(p)); err == nil {
		if r, ok := msg.(*jsonrpc.Response); ok {
			l.open.settle(r.ID)
		}
	}
	return n, nil
}

// Close implements io.Closer. The stream is the caller's and stays open.
func (l *lines) Close() error { return nil }

// sieve passes on the lines that are messages, and answers the others: the SDK would
// end the connection over them. It ends with in, and opens what it passes on.
func sieve(in io.Reader, out, answers io.Writer, most int64, open *pending) error {
	r := bufio.NewReaderSize(in, 64<<10)
	for {
		line, long, err := readLine(r, most)
		switch {
		case long:
			if err := refuse(answers, nil, jsonrpc.CodeInvalidRequest, fmt.Sprintf("the message is longer than %d bytes", most)); err != nil {
				return err
			}
		case len(line) > 0:
			msg, code, why, id := parse(line)
			if code != 0 {
				if err := refuse(answers, id, code, why); err != nil {
					return err
				}
				break
			}
			open.note(msg)
			if _, err := out.Write(append(line, '\n')); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// readLine reads up to the end of a line. What is longer than most bytes is read
// and dropped, so that the next line begins where it should.
func readLine(r *bufio.Reader, most int64) (line []byte, long bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if !long {
			line = append(line, part...)
		}
		if int64(len(line)) > most {
			line, long = nil, true
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return bytes.TrimSpace(line), long, err
	}
}

// parse reads a line, or says why it is no message; code 0 says that it is one.
func parse(line []byte) (msg jsonrpc.Message, code int64, why string, id json.RawMessage) {
	if !json.Valid(line) {
		return nil, jsonrpc.CodeParseError, "the message is not valid JSON", nil
	}
	if line[0] == '[' {
		return nil, jsonrpc.CodeInvalidRequest, "batches are no part of the protocol since 2025-06-18: send one message a line", nil
	}
	msg, err := jsonrpc.DecodeMessage(line)
	if err != nil {
		var head struct {
			ID json.RawMessage `json:"id"`
		}
		if json.Unmarshal(line, &head) != nil || !plainID(head.ID) {
			head.ID = nil
		}
		return nil, jsonrpc.CodeInvalidRequest, "the message is no JSON-RPC 2.0 request, notification or response", head.ID
	}
	return msg, 0, "", nil
}

// plainID reports whether an id is a text or a number, as JSON-RPC has it.
func plainID(id json.RawMessage) bool {
	return len(id) > 0 && (id[0] == '"' || id[0] == '-' || id[0] >= '0' && id[0] <= '9')
}

func refuse(w io.Writer, id json.RawMessage, code int64, why string) error {
	type fail struct {
		Code    int64  `json:"code"`
		Message string `json:"message"`
	}
	if id == nil {
		id = json.RawMessage("null")
	}
	raw, err := json.Marshal(struct {
		JSONRPC string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   fail            `json:"error"`
	}{"2.0", id, fail{code, why}})
	if err != nil {
		return err
	}
	_, err = w.Write(append(raw, '\n'))
	return err
}
