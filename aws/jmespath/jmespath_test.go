package jmespath

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const document = `{"groups":[{"id":"a","n":3,"t":10.0,"tags":{"k":"v"},"nodes":[{"z":"1a","role":"primary"},{"z":"1b","role":"replica"}]},
{"id":"b","n":1,"t":2.5,"nodes":[]},{"id":"c","n":2,"t":1e-05,"on":true,"nodes":[{"z":"1c","role":"primary"}]}],
"odd name":{"x y":1},"list":[0,1,2,3,4],"deep":[[1,[2]],[3]],"no":null,"text":"häß","maps":{"q":{"v":1},"p":{"v":2},"r":5}}`

// asked are expressions and what jmespath.py gives for them; TestPythonAgrees asks it.
var asked = []struct{ query, want string }{
	{"groups[0].id", `"a"`},
	{"groups[-1].id", `"c"`},
	{"groups[9].id", `null`},
	{"groups[-9]", `null`},
	{"groups[*].id", `["a","b","c"]`},
	{"groups[].nodes[].z", `["1a","1b","1c"]`},
	{"groups[*].nodes[*].z", `[["1a","1b"],[],["1c"]]`},
	{"groups[?n > `1`].id", `["a","c"]`},
	{"groups[?t == `10`].t", `[10.0]`},
	{"groups[].[id,t,n]", `[["a",10.0,3],["b",2.5,1],["c",1e-05,2]]`},
	{"groups[0].{Zone:nodes[0].z,Id:id}", `{"Zone":"1a","Id":"a"}`},
	{"groups[?nodes[?role=='primary' && z=='1c']].id", `["c"]`},
	{"groups[?!on].id | [0]", `"a"`},
	{"groups[?on || n==`3`].id", `["a","c"]`},
	{"groups[*].tags.k", `["v"]`},
	{"list[1:3]", `[1,2]`},
	{"list[::-1]", `[4,3,2,1,0]`},
	{"list[-2:]", `[3,4]`},
	{"list[:-3]", `[0,1]`},
	{"list[10:0:-2]", `[4,2]`},
	{"list[5:]", `[]`},
	{"deep[]", `[1,[2],3]`},
	{"deep[][]", `[1,2,3]`},
	{`"odd name"."x y"`, `1`},
	{"maps.*.v", `[1,2]`},
	{"maps.*", `[{"v":1},{"v":2},5]`},
	{"*.id", `[]`},
	{"no.x", `null`},
	{"no[*].x", `null`},
	{"list.x", `null`},
	{"@.list[0]", `0`},
	{"(list | [1:])[0]", `1`},
	{"`{\"a\": [1, 2.0]}`", `{"a":[1,2.0]}`},
	{"'it''s'", `ERROR`},
	{`'it\'s'`, `"it's"`},
	{"list[?@ >= `3`]", `[3,4]`},
	{"list < `1`", `null`},
	{"groups[?id >= 'b'].id", `["b","c"]`},
	{"length(groups)", `3`},
	{"length(text)", `3`},
	{"sort_by(groups,&n)[].id", `["b","c","a"]`},
	{"max_by(groups,&n).id", `"a"`},
	{"min_by(groups,&t).id", `"c"`},
	{"sum(groups[].n)", `6`},
	{"sum(groups[].t)", `12.50001`},
	{"avg(list)", `2.0`},
	{"join(', ',groups[].id)", `"a, b, c"`},
	{"contains(text,'ä')", `true`},
	{"contains(list,`9`)", `false`},
	{"starts_with(text,'h') && ends_with(text,'ß')", `true`},
	{"keys(maps)", `["q","p","r"]`},
	{"values(maps.q)", `[1]`},
	{"merge(maps.q,`{\"w\":1}`)", `{"v":1,"w":1}`},
	{"not_null(no,text)", `"häß"`},
	{"reverse(list)", `[4,3,2,1,0]`},
	{"reverse(text)", `"ßäh"`},
	{"map(&tags.k,groups)", `["v",null,null]`},
	{"to_string(list)", `"[0,1,2,3,4]"`},
	{"to_number('1.5')", `1.5`},
	{"to_number('x')", `null`},
	{"to_array(text)", `["häß"]`},
	{"type(no)", `"null"`},
	{"ceil(`1.2`)", `2`},
	{"floor(`1.8`)", `1`},
	{"abs(`-3`)", `3`},
	{"sort(groups[].id)[-1]", `"c"`},
	{"max(list)", `4`},
	{"min(`[]`)", `null`},
	{"abs(text)", `ERROR`},
	{"sort_by(groups,&nodes)", `ERROR`},
	{"nothing(@)", `ERROR`},
	{"length(@,@)", `ERROR`},
	{"groups[", `ERROR`},
	{"groups[*", `ERROR`},
	{"a..b", `ERROR`},
	{"list[::0]", `ERROR`},
	{"{a b}", `ERROR`},
	{"'open", `ERROR`},
	{"#", `ERROR`},
	{"", `ERROR`},
}

func evaluate(query string) string {
	v, err := Decode(document)
	if err != nil {
		panic(err)
	}
	q, err := Compile(query)
	if err == nil {
		v, err = q.Search(v)
	}
	if err != nil {
		return "ERROR"
	}
	return JSON(v, 0)
}

func TestQueries(t *testing.T) {
	for _, c := range asked {
		if got := evaluate(c.query); got != c.want {
			t.Errorf("%s: %s, want %s", c.query, got, c.want)
		}
	}
}

// TestPythonAgrees asks the AWS CLI's own library the same questions.
func TestPythonAgrees(t *testing.T) {
	if os.Getenv("UNDERSTUDY_TEST_AWS") == "" {
		t.Skip("make test-aws asks jmespath.py")
	}
	var queries []string
	for _, c := range asked {
		queries = append(queries, c.query)
	}
	text, err := json.Marshal(queries)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c", `
import json, sys, jmespath
doc = json.loads(sys.argv[1])
out = []
for q in json.load(sys.stdin):
    try:
        out.append(json.dumps(jmespath.search(q, doc), ensure_ascii=False, separators=(',', ':')))
    except Exception as e:
        out.append('ERROR')
print(json.dumps(out))`, document)
	cmd.Stdin = strings.NewReader(string(text))
	text, err = cmd.Output()
	var theirs []string
	if err == nil {
		err = json.Unmarshal(text, &theirs)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range asked {
		if theirs[i] != c.want {
			t.Errorf("%s: jmespath.py gives %s, not %s", c.query, theirs[i], c.want)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, c := range asked {
		f.Add(c.query)
	}
	v, err := Decode(document)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := Compile(query)
		if err != nil {
			return
		}
		if found, err := q.Search(v); err == nil {
			if _, err := Decode(JSON(found, 4)); err != nil {
				t.Errorf("%q gives what is no JSON: %v", query, err)
			}
		}
	})
}
