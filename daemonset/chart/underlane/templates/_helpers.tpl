{{/* Labels of every object: kubectl get all -l app.kubernetes.io/part-of=underlane */}}
{{- define "underlane.labels" -}}
app.kubernetes.io/part-of: underlane
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* image (dict "root" $ "name" "agent") */}}
{{- define "underlane.image" -}}
{{ .root.Values.image.registry }}/{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "underlane.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* agent.drainTimeout (10s, 2m, 1m30s) in seconds, and 15 s more */}}
{{- define "underlane.graceSeconds" -}}
{{- $left := .Values.agent.drainTimeout }}
{{- $total := 45 }}
{{- range $unit, $seconds := dict "h" 3600 "m" 60 "s" 1 }}
{{- range regexFindAll (printf "[0-9]+%s" $unit) $left -1 }}
{{- $total = add $total (mul $seconds (trimSuffix $unit .)) }}
{{- end }}
{{- end }}
{{- $total }}
{{- end }}

{{/* "true" where the issuer is the user's and the controller leaves it alone */}}
{{- define "underlane.externalIssuer" -}}
{{- if or .Values.identity.issuer.existing .Values.identity.issuer.keyPEM }}true{{ end }}
{{- end }}

{{/* files below rules/ that Prometheus evaluates */}}
{{- define "underlane.rules" -}}
underlane.yaml{{ if .Values.monitoring.linkerdDashboards }} linkerd.yaml{{ end }}
{{- end }}
