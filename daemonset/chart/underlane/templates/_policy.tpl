{{/* What the definitions of policies have in common. Objects keep the fields that these schemas
do not have: the controller reports them. */}}

{{/* the schema of targetRefs: pods of the policy's namespace */}}
{{- define "underlane.policy.targetRefs" -}}
type: array
description: One reference to pods of the policy's namespace.
minItems: 1
maxItems: 1
x-kubernetes-list-type: atomic
items:
  type: object
  x-kubernetes-preserve-unknown-fields: true
  required: [group, kind]
  x-kubernetes-validations:
    - rule: self.kind == 'Pod' && (self.group == '' || self.group == 'core')
      message: only pods can be selected
    - rule: has(self.selector) && !has(self.name)
      message: pods are selected by a selector, not by a name
  properties:
    group: {type: string, maxLength: 253}
    kind: {type: string, minLength: 1, maxLength: 63}
    name: {type: string, minLength: 1, maxLength: 253}
    selector:
      type: object
      description: The empty selector selects all pods of the namespace.
      x-kubernetes-preserve-unknown-fields: true
      properties:
        matchLabels:
          type: object
          maxProperties: 64
          additionalProperties: {type: string, maxLength: 63}
        matchExpressions:
          type: array
          maxItems: 64
          x-kubernetes-list-type: atomic
          items:
            type: object
            x-kubernetes-preserve-unknown-fields: true
            required: [key, operator]
            properties:
              key: {type: string, maxLength: 317}
              operator: {type: string, enum: [In, NotIn, Exists, DoesNotExist]}
              values:
                type: array
                maxItems: 64
                x-kubernetes-list-type: atomic
                items: {type: string, maxLength: 63}
{{- end }}

{{/* the properties of a rule: which clients, connections and requests it matches */}}
{{- define "underlane.policy.rule" -}}
sources:
  type: array
  description: One of them has to match. Absent, any client does; an empty list matches none.
  maxItems: 64
  x-kubernetes-list-type: atomic
  items:
    type: object
    x-kubernetes-preserve-unknown-fields: true
    required: [type]
    x-kubernetes-validations:
      - rule: 'self.type == ''ServiceAccount'' ? has(self.serviceAccount) && !has(self.spiffe) : has(self.spiffe) && !has(self.serviceAccount)'
        message: want the field of the type, and no other
    properties:
      type: {type: string, enum: [ServiceAccount, SPIFFE]}
      spiffe:
        type: string
        description: A SPIFFE ID of any trust domain.
        maxLength: 2048
        pattern: ^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$
      serviceAccount:
        type: object
        description: One of the pod's own trust domain.
        x-kubernetes-preserve-unknown-fields: true
        required: [name]
        properties:
          namespace:
            type: string
            description: That of the policy, where it is not given.
            minLength: 1
            maxLength: 63
            pattern: ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$
          name:
            type: string
            description: The name, or * for all of the namespace.
            minLength: 1
            maxLength: 253
            pattern: ^(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)$
networkAttributes:
  type: object
  x-kubernetes-preserve-unknown-fields: true
  properties:
    ports: &ports
      type: array
      description: Ports of the pod.
      maxItems: 64
      x-kubernetes-list-type: set
      items: {type: integer, format: int32, minimum: 1, maximum: 65535}
authorization:
  type: object
  description: Attributes of requests. All fields that are set have to match.
  x-kubernetes-preserve-unknown-fields: true
  required: [type]
  x-kubernetes-validations:
    - rule: 'self.type == ''CEL'' ? has(self.cel) && !has(self.methods) && !has(self.paths) && !has(self.headers) && !has(self.hosts) && !has(self.ports) : !has(self.cel)'
      message: with the type CEL want the field cel alone, otherwise no cel
  properties:
    type: {type: string, enum: [Inline, CEL]}
    cel:
      type: object
      x-kubernetes-preserve-unknown-fields: true
      required: [expression]
      properties:
        expression:
          type: string
          description: 'A condition in CEL, for example request.headers["x-role"] == "admin". The status says what is wrong with it.'
          minLength: 1
          maxLength: 2048
    methods:
      type: array
      maxItems: 9
      x-kubernetes-list-type: set
      items: {type: string, enum: [GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH]}
    paths:
      type: array
      maxItems: 64
      x-kubernetes-list-type: atomic
      items:
        type: object
        x-kubernetes-preserve-unknown-fields: true
        properties:
          type: {type: string, default: PathPrefix, enum: [Exact, PathPrefix, RegularExpression]}
          value: {type: string, default: /, maxLength: 1024}
    headers:
      type: array
      description: All of them have to match.
      maxItems: 16
      x-kubernetes-list-type: atomic
      items:
        type: object
        x-kubernetes-preserve-unknown-fields: true
        required: [name, value]
        properties:
          type: {type: string, default: Exact, enum: [Exact, RegularExpression]}
          name: {type: string, minLength: 1, maxLength: 256, pattern: '^[A-Za-z0-9!#$%&''*+\-.^_\x60|~]+$'}
          value: {type: string, minLength: 1, maxLength: 4096}
    hosts:
      type: array
      maxItems: 64
      x-kubernetes-list-type: set
      items: {type: string, minLength: 1, maxLength: 253, pattern: '^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'}
    ports: *ports
{{- end }}
