package wire

import (
	"reflect"
	"regexp"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// The SDK's types carry what the models describe: an operation whose struct lacked a member would drop what
// clients send.
func TestTheSDKsTypesFitTheModels(t *testing.T) {
	for model, client := range map[*Model]reflect.Type{
		ElastiCache(): reflect.TypeFor[*elasticache.Client](), CloudWatch(): reflect.TypeFor[*cloudwatch.Client](),
		SNS(): reflect.TypeFor[*sns.Client](), STS(): reflect.TypeFor[*sts.Client](),
	} {
		for name, o := range model.Operations {
			method, ok := client.MethodByName(name)
			if !ok {
				t.Errorf("%s: the SDK has no %s", model.Service, name)
				continue
			}
			for shape, of := range map[string]reflect.Type{o.Input: method.Type.In(2), o.Output: method.Type.Out(0)} {
				if shape == "" {
					continue
				}
				if err := fits(model.Shapes[shape], of, nil); err != nil {
					t.Errorf("%s %s: %v", model.Service, name, err)
				}
			}
		}
	}
}

func TestPatternsCompile(t *testing.T) {
	for _, m := range []*Model{ElastiCache(), CloudWatch(), SNS(), STS()} {
		for name, o := range m.Operations {
			if o.Input != "" {
				compile(t, m, name, m.Shapes[o.Input], map[*Shape]bool{})
			}
		}
	}
}

func compile(t *testing.T, m *Model, operation string, s *Shape, seen map[*Shape]bool) {
	if seen[s] {
		return
	}
	seen[s] = true
	if _, err := regexp.Compile(s.Pattern); err != nil {
		t.Errorf("%s %s: %s: %v", m.Service, operation, s.Name, err)
	}
	for _, part := range append(append([]*Member{}, s.Members...), s.Member, s.Key, s.Value) {
		if part != nil {
			compile(t, m, operation, part.Shape, seen)
		}
	}
}
