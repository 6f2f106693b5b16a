package pattern_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/pattern"
)

// TestAllCompile finds every expression that the program writes down: what package regexp
// would refuse at the start has to be found before it is used.
func TestAllCompile(t *testing.T) {
	t.Parallel()
	found, files := 0, token.NewFileSet()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fn, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || fn.Sel.Name != "New" {
				return true
			}
			if x, ok := fn.X.(*ast.Ident); !ok || x.Name != "pattern" {
				return true
			}
			found++
			text, err := literal(call.Args[0])
			if err != nil {
				t.Errorf("%s: the expression is no literal, so nothing can check it", files.Position(call.Pos()))
			} else if _, err := regexp.Compile(text); err != nil {
				t.Errorf("%s: %v", files.Position(call.Pos()), err)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 50 {
		t.Errorf("only %d expressions were found", found)
	}
}

// literal gives the text of a string, also of one that is put together from several.
func literal(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.BinaryExpr:
		a, err := literal(e.X)
		if err != nil {
			return "", err
		}
		b, err := literal(e.Y)
		return a + b, err
	}
	return "", strconv.ErrSyntax
}

// The methods say what those of package regexp say.
func TestSameAsRegexp(t *testing.T) {
	t.Parallel()
	const text = `([a-z]+)=(\d+)`
	a, b := pattern.New(text), regexp.MustCompile(text)
	for _, s := range []string{"", "x", "a=1", "a=1, bb=22; c=x", "=1 a="} {
		for name, pair := range map[string][2]any{
			"String":                  {a.String(), b.String()},
			"MatchString":             {a.MatchString(s), b.MatchString(s)},
			"FindString":              {a.FindString(s), b.FindString(s)},
			"FindStringIndex":         {a.FindStringIndex(s), b.FindStringIndex(s)},
			"FindStringSubmatch":      {a.FindStringSubmatch(s), b.FindStringSubmatch(s)},
			"FindStringSubmatchIndex": {a.FindStringSubmatchIndex(s), b.FindStringSubmatchIndex(s)},
			"FindAllString":           {a.FindAllString(s, -1), b.FindAllString(s, -1)},
			"FindAllStringSubmatch":   {a.FindAllStringSubmatch(s, 1), b.FindAllStringSubmatch(s, 1)},
			"ReplaceAllString":        {a.ReplaceAllString(s, "$2"), b.ReplaceAllString(s, "$2")},
		} {
			if diff := cmp.Diff(pair[1], pair[0]); diff != "" {
				t.Errorf("%s of %q: %s", name, s, diff)
			}
		}
	}
}
