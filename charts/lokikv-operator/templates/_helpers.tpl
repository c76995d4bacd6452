{{- define "lokikv.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else if hasPrefix .Release.Name .Chart.Name }}{{ .Chart.Name }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "lokikv.selector" -}}
app.kubernetes.io/name: lokikv-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lokikv.labels" -}}
{{ include "lokikv.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "lokikv.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "lokikv.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "lokikv.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{- /* What the operator does in the namespaces of clusters: each verb is used, none is missing (test/kube). */ -}}
{{- define "lokikv.rules" -}}
- {apiGroups: [lokikv.dev], resources: [lokiclusters], verbs: [get, list, watch]}
- {apiGroups: [lokikv.dev], resources: [lokiclusters/status], verbs: [patch]}
- {apiGroups: [apps], resources: [statefulsets], verbs: [get, list, watch, create, patch]}
- {apiGroups: [""], resources: [pods], verbs: [list, watch, patch, delete]}
- {apiGroups: [""], resources: [pods/eviction], verbs: [create]}
- {apiGroups: [""], resources: [persistentvolumeclaims], verbs: [list, patch, delete]}
- {apiGroups: [""], resources: [services], verbs: [get, list, watch, create, patch]}
- {apiGroups: [""], resources: [serviceaccounts], verbs: [get, create, patch]}
- {apiGroups: [""], resources: [secrets, configmaps], verbs: [get, create]}
- {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [get, list, watch, create, patch]}
- {apiGroups: [""], resources: [events], verbs: [create]}
{{- end }}
