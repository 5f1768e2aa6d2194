{{- define "edge.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}

{{- define "edge.selector" -}}
app.kubernetes.io/name: fluxlit-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "edge.labels" -}}
{{ include "edge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "edge.image" -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag }}
{{- end -}}
{{- end -}}

{{- define "edge.origin" -}}
{{ ternary "https" "http" .Values.https }}://{{ .Values.host }}
{{- end -}}

{{/* Seconds until the gateway has ended: the delay, its requests, then its app. The rest is for the last log lines. */}}
{{- define "edge.stopSeconds" -}}
{{ add .Values.stop.delaySeconds (mul 2 .Values.stop.graceSeconds) 10 }}
{{- end -}}

{{/* The loopback address, on which the probes reach the admin listener. */}}
{{- define "edge.loopback" -}}
{{ ternary "[::1]" "127.0.0.1" (eq .Values.listen "::") }}
{{- end -}}

{{/* The command that asks Streamlit whether it is alive, as JSON. */}}
{{- define "edge.streamlit.liveness" -}}
{{ append .Values.app.livenessCommand (printf "http://127.0.0.1:8501%s/_stcore/health" .Values.mount) | toJson }}
{{- end -}}

{{- define "edge.pathOrRoot" -}}
{{ .Values.mount | default "/" }}
{{- end -}}

{{- define "edge.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "edge.pod.security" -}}
runAsNonRoot: true
runAsUser: {{ .Values.runAsUser }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The pod of the doctor. Expects a dict with the root and the checks to select. */}}
{{- define "edge.doctor.pod" -}}
{{- $ := .root -}}
restartPolicy: Never
# [!] It needs no access to the cluster.
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "edge.pod.security" $ | nindent 2 }}
{{- with $.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
- name: doctor
  image: {{ include "edge.image" $.Values.image }}
  imagePullPolicy: {{ $.Values.image.pullPolicy }}
  command:
  - fluxlit-gateway
  - doctor
  - --probe={{ include "edge.origin" $ }}{{ $.Values.mount }}/
  {{- range .options }}
  - {{ . }}
  {{- end }}
  {{- range $.Values.doctor.options }}
  - {{ . | quote }}
  {{- end }}
  env:
  - {name: NO_COLOR, value: "1"}
  securityContext:
    {{- include "edge.container.security" $ | nindent 4 }}
  resources:
    requests: {cpu: 50m, memory: 32Mi}
    limits: {memory: 128Mi}
  {{- with $.Values.doctor.secret }}
  volumeMounts:
  - {name: doctor, mountPath: /etc/doctor, readOnly: true}
volumes:
- name: doctor
  secret: {secretName: {{ . }}, defaultMode: 0444}
  {{- end }}
{{- end -}}
