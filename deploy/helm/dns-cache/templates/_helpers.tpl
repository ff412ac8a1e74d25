{{/* What labels call it. */}}
{{- define "dns-cache.app" -}}
{{- .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{/* What objects are called. */}}
{{- define "dns-cache.name" -}}
{{- $app := include "dns-cache.app" . -}}
{{- $name := printf "%s-%s" .Release.Name $app -}}
{{- if contains $app .Release.Name }}{{ $name = .Release.Name }}{{ end -}}
{{- .Values.fullnameOverride | default $name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "dns-cache.selector" -}}
app.kubernetes.io/name: {{ include "dns-cache.app" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "dns-cache.labels" -}}
{{ include "dns-cache.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "dns-cache.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "dns-cache.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "dns-cache.image" -}}
{{- $image := .Values.image -}}
{{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The agent's configuration: what the values say, with `config` laid over it. What is not set is left to the
agent's defaults, and to what is imported: that says by itself what the cluster's zone is. */}}
{{- define "dns-cache.config" -}}
{{- include "dns-cache.validate" . -}}
{{- $kubernetes := dict
  "service" .Values.service.name
  "namespace" .Values.service.namespace
  "interceptService" (ne .Values.mode "link-local")
  "detachWhenRefused" true -}}
{{- $config := dict
  "kubernetes" $kubernetes
  "log" (dict "format" .Values.log.format "level" .Values.log.level)
  "metrics" (dict "listen" (printf "[::]:%v" (int .Values.metrics.port)) "perPod" .Values.metrics.perPod)
  "afterHandOver" "standBy"
  "stateDir" "/run/dns-cache"
  "bpffs" "/sys/fs/bpf/dns-cache" -}}
{{- if .Values.host.enabled }}{{ $_ := set $config "host" (dict "enabled" true "cgroup" "/host/cgroup") }}{{ end -}}
{{- with .Values.exclude }}{{ $_ := set $config "exclude" . }}{{ end -}}
{{- if ne .Values.mode "transparent" }}{{ $_ := set $config "listen" .Values.linkLocal.addresses }}{{ end -}}
{{- if not .Values.importNodeLocalDNS -}}
{{- $_ := set $config "cluster" (dict "domain" .Values.clusterDomain) -}}
{{- end -}}
{{- range $key, $value := .Values.cache }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $config "cache" (set (get $config "cache" | default dict) $key $value) }}{{ end -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.config)) }}
{{- end }}
