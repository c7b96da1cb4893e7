package extauth

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/extauth/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

// CheckPath is the path of the call.
const CheckPath = "/envoy.service.auth.v3.Authorization/Check"

// prefix is the length of what precedes a message of gRPC: a byte for its compression, and
// its length in four.
const prefix = 5

// checkOf returns the message of the call. Its strings are copies: those of the request may
// be overwritten before there is a body.
func checkOf(a *mesh.ExternalAuth, r *Request) *pb.CheckRequest {
	http := &pb.AttributeContext_HttpRequest{
		Id: valid(r.ID), Method: valid(r.Method), Path: valid(r.Path), Host: valid(r.Host), Scheme: valid(r.Scheme),
		Protocol: r.Protocol, Headers: map[string]string{},
	}
	pseudo := [...]mesh.HeaderField{{Name: ":method", Value: r.Method}, {Name: ":path", Value: r.Path}, {Name: ":authority", Value: r.Host}, {Name: ":scheme", Value: r.Scheme}}
	for _, f := range pseudo {
		if a.RequestHeaders.Has(f.Name) {
			http.Headers[f.Name] = valid(f.Value)
		}
	}
	for name, value := range r.Fields {
		name = strings.ToLower(valid(name))
		if name == "" || name[0] == ':' || name == "host" || !a.RequestHeaders.Has(name) {
			continue
		}
		if before, ok := http.Headers[name]; ok {
			value = before + "," + value // as Envoy joins them, Cookie as well
		}
		http.Headers[name] = valid(value)
	}
	return &pb.CheckRequest{Attributes: &pb.AttributeContext{
		Source: peer(r.Source), Destination: peer(r.Destination), Request: &pb.AttributeContext_Request{Http: http},
	}}
}

// marshal returns the message with its prefix.
func marshal(m *pb.CheckRequest, body []byte, size int64) ([]byte, error) {
	http := m.GetAttributes().GetRequest().GetHttp()
	http.Size = size
	if utf8.Valid(body) {
		http.Body = string(body)
	} else {
		http.RawBody = body
	}
	out, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(make([]byte, prefix), m)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(out[1:], uint32(len(out)-prefix))
	return out, nil
}

func peer(p Peer) *pb.AttributeContext_Peer {
	out := &pb.AttributeContext_Peer{Principal: valid(p.Principal)}
	if p.Addr.IsValid() {
		out.Address = &pb.Address{SocketAddress: &pb.SocketAddress{Address: p.Addr.Addr().Unmap().WithZone("").String(), PortValue: uint32(p.Addr.Port())}}
	}
	return out
}

// valid returns a copy of s with '!' for what is not UTF-8, as Envoy does. Protocol buffers have no
// other strings.
func valid(s string) string { return strings.Clone(strings.ToValidUTF8(s, "!")) }

var errMessage = errors.New("the authorizer's answer is not one message")

// CheckAnswer reads the response of the call: one message with its prefix. present reports
// whether the request has a field, with its name in lower case.
func CheckAnswer(message []byte, present func(name string) bool) (Answer, error) {
	if len(message) < prefix || message[0] != 0 || binary.BigEndian.Uint32(message[1:]) != uint32(len(message)-prefix) {
		return Answer{}, errMessage
	}
	var in pb.CheckResponse
	if err := proto.Unmarshal(message[prefix:], &in); err != nil {
		return Answer{}, fmt.Errorf("the authorizer's answer: %w", err)
	}
	ok := in.GetOkResponse()
	switch {
	case in.GetStatus().GetCode() != 0 || in.GetStatus() == nil && ok == nil && in.GetDeniedResponse() != nil:
		return refusal(in.GetDeniedResponse())
	case in.GetStatus() == nil && ok == nil:
		return Answer{}, errors.New("the authorizer's answer has no status")
	case in.GetDeniedResponse() != nil:
		return Answer{}, errors.New("the authorizer's answer has the status OK and a refusal")
	case len(ok.GetQueryParametersToSet())+len(ok.GetQueryParametersToRemove()) > 0:
		return Answer{}, errors.New("the authorizer's answer changes the query, which is not supported")
	}
	out := Answer{Allowed: true}
	for _, name := range ok.GetHeadersToRemove() {
		if name = strings.ToLower(name); !bound(name) {
			out.Remove = append(out.Remove, name)
		}
	}
	for _, option := range ok.GetHeaders() {
		if err := out.change(option, present); err != nil {
			return Answer{}, err
		}
	}
	var err error
	if out.Response, err = fieldsOf(ok.GetResponseHeadersToAdd()); err != nil {
		return Answer{}, err
	}
	return out, out.count()
}

// change adds the change of a field of the request. Without append, and without an action
// that says otherwise, a field is replaced, as Envoy does.
func (a *Answer) change(option *pb.HeaderValueOption, present func(string) bool) error {
	f, err := fieldOf(option)
	switch {
	case err != nil:
		return err
	case bound(f.Name):
		return fmt.Errorf("the authorizer's answer changes %q, which is not supported", f.Name)
	case option.GetAppend().GetValue():
		a.Add = append(a.Add, f)
		return nil
	}
	switch option.GetAppendAction() {
	case pb.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD, pb.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		a.set(f.Name, f.Value)
	case pb.HeaderValueOption_ADD_IF_ABSENT:
		if !present(f.Name) {
			a.Add = append(a.Add, f)
		}
	case pb.HeaderValueOption_OVERWRITE_IF_EXISTS:
		if present(f.Name) {
			a.set(f.Name, f.Value)
		}
	default:
		return fmt.Errorf("the authorizer's answer has the action %d, which is not known", option.GetAppendAction())
	}
	return nil
}

func refusal(in *pb.DeniedHttpResponse) (Answer, error) {
	out := Answer{Status: int(in.GetStatus().GetCode())}
	if out.Status < 200 || out.Status > 599 {
		out.Status = denied
	}
	if len(in.GetBody()) > 0 {
		out.Body = []byte(in.GetBody())
	}
	var err error
	if out.Fields, err = fieldsOf(in.GetHeaders()); err != nil {
		return Answer{}, err
	}
	return out, out.count()
}

// fieldsOf returns fields for the client.
func fieldsOf(options []*pb.HeaderValueOption) (out []mesh.HeaderField, err error) {
	for _, option := range options {
		f, err := fieldOf(option)
		if err != nil {
			return nil, err
		}
		if !bound(f.Name) {
			out = append(out, f)
		}
	}
	return out, nil
}

func fieldOf(option *pb.HeaderValueOption) (mesh.HeaderField, error) {
	h := option.GetHeader()
	f := mesh.HeaderField{Name: strings.ToLower(h.GetKey()), Value: h.GetValue()}
	if len(h.GetRawValue()) > 0 {
		f.Value = string(h.GetRawValue())
	}
	if f.Name == "" {
		return f, errors.New("the authorizer's answer has a field without a name")
	}
	if f.Name[0] == ':' {
		return f, nil
	}
	return f, checkField(f.Name, f.Value)
}
