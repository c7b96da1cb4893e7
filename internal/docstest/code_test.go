package docstest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// code is what the repository's files declare.
type code struct {
	files    map[string]map[string]bool // by path: names, and Type.Member
	packages map[string][]string        // directories by name of package
	inDir    map[string][]string        // the paths of files, by directory
	paths    map[string]bool            // all files and directories
}

var (
	comment = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`)
	word    = regexp.MustCompile(`\w+`)
)

// newCode reads the sources; paths are all paths of the repository.
func newCode(t *testing.T, paths []string, read func(path string) string) *code {
	t.Helper()
	c := &code{files: map[string]map[string]bool{}, packages: map[string][]string{}, inDir: map[string][]string{}, paths: map[string]bool{}}
	for _, p := range paths {
		for dir := p; dir != "."; dir = path.Dir(dir) {
			c.paths[dir] = true
		}
		switch path.Ext(p) {
		case ".go":
			file, err := parser.ParseFile(token.NewFileSet(), p, read(p), parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			c.files[p] = declared(file)
			if dirs := c.packages[file.Name.Name]; !strings.HasSuffix(p, "_test.go") && !slices.Contains(dirs, path.Dir(p)) {
				c.packages[file.Name.Name] = append(dirs, path.Dir(p))
			}
		case ".c", ".h", ".proto", ".sh":
			c.files[p] = map[string]bool{}
			for _, word := range word.FindAllString(comment.ReplaceAllString(read(p), ""), -1) {
				c.files[p][word] = true
			}
		}
		if c.files[p] != nil {
			c.inDir[path.Dir(p)] = append(c.inDir[path.Dir(p)], p)
		}
	}
	return c
}

// declared are the names that a file declares at its top level, and those of
// fields and methods: both as Name and as Type.Name.
func declared(file *ast.File) map[string]bool {
	out := map[string]bool{}
	member := func(of, name string) { out[name], out[of+"."+name] = true, true }
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv != nil {
				member(receiver(d.Recv.List[0].Type), d.Name.Name)
			} else {
				out[d.Name.Name] = true
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.ValueSpec:
					for _, n := range s.Names {
						out[n.Name] = true
					}
				case *ast.TypeSpec:
					out[s.Name.Name] = true
					for _, n := range members(s.Type) {
						member(s.Name.Name, n)
					}
				}
			}
		}
	}
	return out
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func members(e ast.Expr) (out []string) {
	var list *ast.FieldList
	switch e := e.(type) {
	case *ast.StructType:
		list = e.Fields
	case *ast.InterfaceType:
		list = e.Methods
	default:
		return nil
	}
	for _, f := range list.List {
		for _, n := range f.Names {
			out = append(out, n.Name)
		}
		if len(f.Names) == 0 { // embedded
			out = append(out, receiver(f.Type))
		}
	}
	return out
}

// exists says whether a path, which may hold * and end in /, is there.
func (c *code) exists(name string) bool {
	name = strings.TrimSuffix(name, "/")
	if c.paths[name] {
		return true
	}
	if !strings.Contains(name, "*") {
		return false
	}
	for p := range c.paths {
		if ok, _ := path.Match(name, p); ok {
			return true
		}
	}
	return false
}

// declares says whether the file, or one of the files of the directory, at p
// declares name, which may be qualified by its package, its type, or both.
func (c *code) declares(p, name string) bool {
	if c.files[p] != nil {
		return c.fileDeclares(p, name)
	}
	return slices.ContainsFunc(c.inDir[p], func(file string) bool {
		return !strings.HasSuffix(file, "_test.go") && c.fileDeclares(file, name)
	})
}

// fileDeclares is declares for one file.
func (c *code) fileDeclares(file, name string) bool {
	name = strings.TrimSuffix(name, "()")
	if c.files[file][name] {
		return true
	}
	pkg, rest, ok := strings.Cut(name, ".")
	return ok && c.files[file][rest] && slices.Contains(c.packages[pkg], path.Dir(file))
}

// where lists some files that declare name, so that the message says where it is.
func (c *code) where(name string) []string {
	var out []string
	for file := range maps.Keys(c.files) {
		if c.fileDeclares(file, name) && !strings.HasSuffix(file, "_test.go") {
			out = append(out, file)
		}
	}
	slices.Sort(out)
	return out[:min(len(out), 3)]
}
