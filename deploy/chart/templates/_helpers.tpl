{{- define "gumshoe.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" (.Release.Name | trunc 42 | trimSuffix "-") .Chart.Name }}
{{- end -}}
{{- end -}}

{{- define "gumshoe.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gumshoe.labels" -}}
{{ include "gumshoe.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Metadata of an object of the release: (list . SUFFIX). */}}
{{- define "gumshoe.meta" -}}
{{- $root := index . 0 -}}
name: {{ include "gumshoe.fullname" $root }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "gumshoe.labels" $root | nindent 2 }}
{{- end -}}

{{/* A section of config, {} where it is not given: (list . "server" "auth"). */}}
{{- define "gumshoe.section" -}}
{{- $at := (index . 0).Values.config | default dict -}}
{{- range rest . }}{{ $at = get $at . | default dict }}{{ end -}}
{{- toYaml $at -}}
{{- end -}}

{{/* "true" where people have to say who they are: the server then listens on all addresses. */}}
{{- define "gumshoe.open" -}}
{{- $server := include "gumshoe.section" (list . "server") | fromYaml -}}
{{- $auth := get $server "auth" | default dict -}}
{{- if or (dig "oidc" "issuer" "" $auth) (kindIs "map" (get $auth "tokenReview")) (get $auth "tokens") }}true{{ end -}}
{{- end -}}

{{/* "true" where the store is a NATS of the user's own. */}}
{{- define "gumshoe.nats" -}}
{{- if get (include "gumshoe.section" (list . "server" "nats") | fromYaml) "urls" }}true{{ end -}}
{{- end -}}

{{/* Seconds of a duration such as 1h2m3s, rounded up. */}}
{{- define "gumshoe.seconds" -}}
{{- $s := 0 -}}
{{- range regexFindAll "[0-9]+(\\.[0-9]+)?(h|ms|m|s)" . -1 }}
{{- $n := regexFind "^[0-9]+" . | int -}}
{{- if contains "." . }}{{ $n = add1 $n | int }}{{ end -}}
{{- if hasSuffix "ms" . }}{{ $s = add $s 1 }}{{ else if hasSuffix "h" . }}{{ $s = add $s (mul 3600 $n) }}{{ else if hasSuffix "m" . }}{{ $s = add $s (mul 60 $n) }}{{ else }}{{ $s = add $s $n }}{{ end -}}
{{- end -}}
{{ $s }}
{{- end -}}

{{/* How long the kubelet waits: Endpoints forget the pod (5 s), requests end, then runs, then traces are sent. */}}
{{- define "gumshoe.grace" -}}
{{- $server := include "gumshoe.section" (list . "server") | fromYaml -}}
{{- $drain := dig "auth" "drainTimeout" "20s" $server | default "20s" -}}
{{- $runs := dig "queue" "grace" "20s" $server | default "20s" -}}
{{ add 20 (include "gumshoe.seconds" $drain | int) (include "gumshoe.seconds" $runs | int) }}
{{- end -}}

{{/* Values that each are right and together are not. */}}
{{- define "gumshoe.check" -}}
{{- $server := include "gumshoe.section" (list . "server") | fromYaml -}}
{{- $auth := get $server "auth" | default dict -}}
{{- $open := include "gumshoe.open" . -}}
{{- $nats := include "gumshoe.nats" . -}}
{{- $many := gt (int .Values.replicas) 1 -}}
{{- $role := false -}}
{{- range get $auth "tokens" | default list }}{{ if get . "role" }}{{ $role = true }}{{ end }}{{ end -}}
{{- range get $auth "roles" | default dict }}{{ if or (get . "users") (get . "groups") }}{{ $role = true }}{{ end }}{{ end -}}
{{- if not .Values.image.repository }}{{ fail "image.repository is empty: no image of gumshoe is published; build one with deploy/Dockerfile and name it" }}{{ end -}}
{{- if not (or .Values.image.tag .Values.image.digest) }}{{ fail "image.tag and image.digest are empty: say which image is meant" }}{{ end -}}
{{- if eq (int .Values.ports.http) (int .Values.ports.metrics) }}{{ fail (printf "ports.http and ports.metrics are both %d" (int .Values.ports.http)) }}{{ end -}}
{{- if and $open (not $role) }}{{ fail "config.server.auth.roles is empty: whoever signs in could do nothing; give viewer, asker, approver or admin users or groups" }}{{ end -}}
{{- if and (not $open) $auth (or (get $auth "roles") (get $auth "oidc")) }}{{ fail "config.server.auth names nobody who can sign in: configure config.server.auth.oidc.issuer, tokenReview or tokens" }}{{ end -}}
{{- if and $many (not $nats) }}{{ fail (printf "replicas is %d and the embedded store belongs to one process: set config.server.nats.urls" (int .Values.replicas)) }}{{ end -}}
{{- if and $nats (not .Values.approval.existingSecret) }}{{ fail "approval.existingSecret is empty: with config.server.nats.urls there is no volume to keep a key on, and all replicas have to sign with the same; make a Secret with an Ed25519 key, as README.md has it" }}{{ end -}}
{{- if and $many (dig "oidc" "redirectURL" "" $auth) (not (get $auth "sessionKeyFile")) }}{{ fail "config.server.auth.sessionKeyFile is empty: several replicas would refuse each other's sign-ins; mount a Secret (secrets) and name its file" }}{{ end -}}
{{- if and (not .Values.executor.enabled) .Values.executor.actions }}{{ fail "executor.actions is given and executor.enabled is false: say which is meant" }}{{ end -}}
{{- if and .Values.executor.enabled (not .Values.executor.actions) }}{{ fail "executor.actions is empty: list the actions that the executor gets the rights for" }}{{ end -}}
{{- if not $open }}
{{- if .Values.ingress.enabled }}{{ fail "ingress.enabled: without config.server.auth the server listens on loopback only, which no Ingress reaches" }}{{ end -}}
{{- if ne .Values.service.type "ClusterIP" }}{{ fail (printf "service.type %s: without config.server.auth the server listens on loopback only, which no Service reaches" .Values.service.type) }}{{ end -}}
{{- if get $server "alertmanager" }}{{ fail "config.server.alertmanager: without config.server.auth the server listens on loopback only, which no Alertmanager reaches" }}{{ end -}}
{{- if eq (dig "slack" "mode" "" $server) "http" }}{{ fail "config.server.slack.mode http: without config.server.auth the server listens on loopback only, which Slack does not reach; leave mode out for Socket Mode" }}{{ end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not (and .Values.ingress.host .Values.ingress.tlsSecret)) }}{{ fail "ingress.host and ingress.tlsSecret are both needed: tokens travel there" }}{{ end -}}
{{- end -}}

{{/* The configuration file: that of the values, and what the chart sets. */}}
{{- define "gumshoe.config" -}}
{{- $c := deepCopy (.Values.config | default dict) -}}
{{- $server := get $c "server" | default dict -}}
{{- $_ := set $server "listen" (printf "%s:%d" (ternary "" "127.0.0.1" (eq (include "gumshoe.open" .) "true")) (int .Values.ports.http)) -}}
{{- $_ := set $server "metricsListen" (printf ":%d" (int .Values.ports.metrics)) -}}
{{- $_ := set $server "execute" .Values.executor.enabled -}}
{{- $_ := set $c "server" $server -}}
{{- $_ := set $c "store" (merge (dict "dir" "/var/lib/gumshoe/state") (get $c "store" | default dict)) -}}
{{- if .Values.approval.existingSecret }}{{ $_ := set $c "approval" (merge (dict "keyFile" "/etc/gumshoe/approval/approval.key") (get $c "approval" | default dict)) }}{{ end -}}
{{- if .Values.executor.enabled }}{{ $_ := set $c "executor" (dict "kubeconfig" "/etc/gumshoe/config/executor.kubeconfig") }}{{ end -}}
{{- toYaml $c -}}
{{- end -}}
