package file

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// pos is how far a journal was read. It stands between appends, never within one.
type pos struct {
	off int64
	// line is how many lines stand before off, seq the last sequence before it.
	line int
	seq  uint64
}

// errLong is a line that no append wrote.
var errLong = errors.New("it is longer than any record")

// readLine gives the next line without its end; the bytes are good until the
// next call. What has no end yet is io.EOF.
func readLine(r *bufio.Reader, long []byte) (raw, buf []byte, err error) {
	buf = long[:0]
	for {
		part, err := r.ReadSlice('\n')
		if err == nil && len(buf) == 0 {
			return part[:len(part)-1], buf, nil
		}
		if buf = append(buf, part...); len(buf) > maxLine+1 {
			return nil, buf, errLong
		}
		if err == nil {
			return buf[:len(buf)-1], buf, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, buf, err
		}
	}
}

// scan reads the whole appends between a position and the byte end, and gives
// the position behind the last of them. What follows it is torn: an append that
// was cut off, or one that is being written. yield gets the records of one append
// and stops the scan with false.
func scan(r io.ReaderAt, from pos, end int64, where, subject string, yield func(batch []line, at pos) bool) (pos, error) {
	if end <= from.off {
		return from, nil
	}
	in := bufio.NewReaderSize(io.NewSectionReader(r, from.off, end-from.off), int(min(end-from.off+16, 64<<10)))
	at, cur := from, from
	corrupt := func(err error) error { return &CorruptError{Path: where, Line: cur.line, Reason: err.Error()} }
	var batch []line
	var long []byte
	for {
		raw, buf, err := readLine(in, long)
		long = buf
		if errors.Is(err, io.EOF) {
			return at, nil
		}
		cur.line++
		if errors.Is(err, errLong) {
			return at, corrupt(err)
		}
		if err != nil {
			return at, fmt.Errorf("read %s: %w", where, err)
		}
		cur.off += int64(len(raw)) + 1
		if cur.line == 1 {
			h, err := decodeHeader(raw)
			if err == nil && h.Subject != subject {
				err = fmt.Errorf("it says that the journal is of %s", h.Subject)
			}
			if err != nil {
				return at, corrupt(err)
			}
			at = cur
			continue
		}
		l, err := decodeLine(raw)
		if err == nil && l.Seq != cur.seq+1 {
			err = fmt.Errorf("it has sequence %d, not %d", l.Seq, cur.seq+1)
		}
		if err == nil && len(batch) == store.MaxEntries {
			err = errors.New("it continues an append that is too long")
		}
		if err != nil {
			return at, corrupt(err)
		}
		cur.seq = l.Seq
		batch = append(batch, l)
		if l.More {
			continue
		}
		at = cur
		if !yield(batch, at) {
			return at, nil
		}
		batch = nil
	}
}

// lastLine gives the last whole line of a journal without reading the rest; ok is
// false where that does not tell the end: there is none, it is the header, it is
// damaged, or an append was cut off in the middle.
func lastLine(r io.ReaderAt, size int64) (l line, ok bool, err error) {
	for n := int64(16 << 10); ; n *= 8 {
		n = min(n, size)
		buf := make([]byte, n)
		if _, err := r.ReadAt(buf, size-n); err != nil && !errors.Is(err, io.EOF) {
			return l, false, err
		}
		end := bytes.LastIndexByte(buf, '\n')
		if end > 0 {
			if begin := bytes.LastIndexByte(buf[:end], '\n'); begin >= 0 {
				l, err := decodeLine(buf[begin+1 : end])
				return l, err == nil && !l.More, nil
			}
		}
		if n == size || n > 2*maxLine {
			return l, false, nil
		}
	}
}
