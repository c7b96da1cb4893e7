// Package controlv1 is the protocol between the controller and the node
// agents: see control.proto.
package controlv1
