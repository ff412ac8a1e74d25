{{- define "dns-cache.name" -}}
{{- $name := printf "%s-%s" .Release.Name .Chart.Name -}}
{{- if contains .Chart.Name .Release.Name }}{{ $name = .Release.Name }}{{ end -}}
{{- $name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "dns-cache.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
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

{{/* The addresses of the cluster's DNS Service, as JSON: what the values say, or what the cluster has. */}}
{{- define "dns-cache.addresses" -}}
{{- $service := .Values.service -}}
{{- $addresses := $service.addresses -}}
{{- if not $addresses -}}
{{- $found := lookup "v1" "Service" $service.namespace $service.name -}}
{{- $addresses = dig "spec" "clusterIPs" (list) $found -}}
{{- end -}}
{{- if not $addresses }}{{ fail (printf "service.addresses: there is no Service %s/%s to look them up in: name them" $service.namespace $service.name) }}{{ end -}}
{{- toJson $addresses }}
{{- end }}

{{/* The agent's configuration: what the values say, with `config` laid over it. */}}
{{- define "dns-cache.config" -}}
{{- $addresses := include "dns-cache.addresses" . | fromJsonArray -}}
{{- $listen := list -}}
{{- if ne .Values.mode "link-local" }}{{ $listen = $addresses }}{{ end -}}
{{- if ne .Values.mode "transparent" }}{{ $listen = concat $listen .Values.linkLocal.addresses }}{{ end -}}
{{- $config := dict
  "listen" $listen
  "cluster" (dict "domain" .Values.clusterDomain "upstreams" $addresses)
  "cache" (dict "maxEntries" .Values.cache.maxEntries "maxBytes" .Values.cache.maxBytes)
  "log" (dict "format" .Values.log.format "level" .Values.log.level)
  "metrics" (dict "listen" (printf "0.0.0.0:%v" (int .Values.metrics.port)) "perPod" .Values.metrics.perPod)
  "stateDir" "/run/dns-cache"
  "bpffs" "/sys/fs/bpf/dns-cache" -}}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.config)) }}
{{- end }}
