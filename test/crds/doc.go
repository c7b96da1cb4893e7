// Package crds has the tests of the project's CustomResourceDefinitions: what an API server
// says of objects, by its own code (k8s.io/apiextensions-apiserver), is compared with what the
// controller says. It is a module of its own for that library.
package crds
