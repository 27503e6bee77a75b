package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// chat sends over shoutrrr: Slack, Teams, Discord, Telegram, PagerDuty, ntfy and some twenty more.
type chat struct{}

// notOurs are schemes of shoutrrr that deliver nothing, or for which there is a protocol of SNS.
var notOurs = []string{"logger", "smtp"}

// service finds the service of a URL. Errors do not repeat the URL: it holds a token.
func service(endpoint string) (types.Service, error) {
	scheme, _, ok := strings.Cut(endpoint, "://")
	if !ok {
		return nil, errors.New("an endpoint of shoutrrr is a URL such as slack://hook:…@webhook")
	}
	for _, x := range notOurs {
		if strings.EqualFold(scheme, x) {
			return nil, fmt.Errorf("%s is not for notifications", x)
		}
	}
	r, err := router.New(log.New(io.Discard, "", 0))
	if err != nil {
		return nil, err
	}
	s, err := r.Locate(endpoint)
	if err != nil {
		return nil, fmt.Errorf("shoutrrr does not take that URL of %.20q; see its page of services", scheme)
	}
	return s, nil
}

func checkService(endpoint string) error {
	_, err := service(endpoint)
	return err
}

// send gives up waiting with ctx. The library has no way to be stopped: cmd bounds its client.
func (chat) send(ctx context.Context, m Message, t Target) error {
	s, err := service(t.Endpoint)
	if err != nil {
		return permanent{err}
	}
	params := types.Params{}
	if m.Subject != "" {
		params.SetTitle(m.Subject)
	}
	sent := make(chan error, 1)
	go func() { sent <- s.Send(bodyOf(m, t), &params) }()
	select {
	case err := <-sent:
		if err != nil {
			return errors.New(strings.ReplaceAll(err.Error(), t.Endpoint, "(the endpoint)"))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no answer: %w", context.Cause(ctx))
	}
}
