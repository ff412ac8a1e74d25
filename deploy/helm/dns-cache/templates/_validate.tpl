{{/* Values that the schema lets through one by one, and that cannot work together. */}}
{{- define "dns-cache.validate" -}}
{{- include "dns-cache.validate.config" . -}}
{{- include "dns-cache.validate.updateStrategy" . -}}
{{- if and .Values.host.enabled (eq .Values.mode "transparent") -}}
{{- fail "host.enabled: the node's own processes are served by a link-local address: set mode to link-local or both" -}}
{{- end -}}
{{- end }}

{{/* Probes, mounts and rights follow the chart's values, and would not follow these settings. */}}
{{- define "dns-cache.validate.config" -}}
{{- $values := dict
  "metrics.listen" "metrics.port"
  "metrics.perPod" "metrics.perPod"
  "exclude" "exclude"
  "host" "host.enabled and hostPaths.cgroup"
  "stateDir" "hostPaths.state"
  "bpffs" "hostPaths.bpffs"
  "cniResults" "hostPaths.cniResults"
  "kubernetes.service" "service.name"
  "kubernetes.namespace" "service.namespace" -}}
{{- range $key, $value := $values -}}
{{- $path := splitList "." $key -}}
{{- $section := $.Values.config -}}
{{- range initial $path -}}{{- $section = get $section . | default dict -}}{{- end -}}
{{- if hasKey $section (last $path) -}}
{{- fail (printf "config.%s: probes, mounts and rights would not follow it: set the chart's own %s" $key $value) -}}
{{- end -}}
{{- end -}}
{{- if ne (get .Values.config "afterHandOver" | default "standBy") "standBy" -}}
{{- fail "config.afterHandOver: the kubelet starts an agent again that exits, and it would take the sockets back: leave standBy" -}}
{{- end -}}
{{- end }}

{{/* As the API server judges: a new pod comes before the old one ends, or after it. What is not said is its default. */}}
{{- define "dns-cache.validate.updateStrategy" -}}
{{- $update := .Values.updateStrategy.rollingUpdate | default dict -}}
{{- $surge := dig "maxSurge" 0 $update | toString | trimSuffix "%" | int -}}
{{- $unavailable := dig "maxUnavailable" 1 $update | toString | trimSuffix "%" | int -}}
{{- if and (eq .Values.updateStrategy.type "RollingUpdate") (eq (eq $surge 0) (eq $unavailable 0)) -}}
{{- fail "updateStrategy.rollingUpdate: exactly one of maxSurge and maxUnavailable must be 0: set both" -}}
{{- end -}}
{{- end }}
