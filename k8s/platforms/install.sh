#!/usr/bin/env bash
# Install what an overlay needs underneath, in the order in which one needs the other:
#
#   k8s/platforms/install.sh staging
#
# It works on kubectl's current context. Run again it changes nothing, or brings what is there to
# the versions of versions.env.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
overlay=${1:?name an overlay: local, staging, production or production-standby}
wanted=$here/../overlays/$overlay/platforms
[[ -f $wanted ]] || { echo "There is no overlay $overlay with a list of platforms." >&2; exit 2; }
for tool in kubectl helm; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed." >&2; exit 2; }
done

# shellcheck source=versions.env
source "$here/versions.env"

# chart NAMESPACE RELEASE CHART VERSION [OPTION...]: install or upgrade, and wait until it is ready.
chart() {
    local namespace=$1 release=$2 chart=$3 version=$4
    shift 4
    helm upgrade --install "$release" "$chart" --version "$version" --namespace "$namespace" \
        --create-namespace --wait --timeout 10m "$@"
}

# manifests URL: too large for a client-side apply, whose annotation would not hold them.
manifests() {
    kubectl apply --server-side --force-conflicts -f "$1"
}

# endpoint NAME: what the overlay's endpoints.env says.
endpoint() {
    sed -n "s/^$1=//p" "$here/../overlays/$overlay/endpoints.env"
}

# role NAME: the ARN of an IAM role, that of any of our accounts with another name at its end.
role() {
    sed -n "s/.*\"\(arn:.*\)-serving\".*/\1-$1/p" "$here/../overlays/$overlay/roles.yaml"
}

# The overlay's domain.
domain() {
    if [[ -f $here/../overlays/$overlay/endpoints.env ]]; then
        endpoint ANY_HOST | sed 's/^\*\.//'
    else
        echo localhost
    fi
}

# First of all: what follows may need more nodes than there are.
install_cluster-autoscaler() {
    chart kube-system cluster-autoscaler cluster-autoscaler "$CLUSTER_AUTOSCALER" \
        --repo https://kubernetes.github.io/autoscaler \
        --values "$here/values/cluster-autoscaler.yaml" \
        --set-string "autoDiscovery.clusterName=$(endpoint NAME)" \
        --set-string "awsRegion=$(endpoint REGION)" \
        --set-string "rbac.serviceAccount.annotations.eks\.amazonaws\.com/role-arn=$(role cluster-autoscaler)"
}

install_nvidia-device-plugin() {
    chart kube-system nvidia-device-plugin nvidia-device-plugin "$NVIDIA_DEVICE_PLUGIN" \
        --repo https://nvidia.github.io/k8s-device-plugin \
        --values "$here/values/nvidia-device-plugin.yaml"
}

install_cert-manager() {
    chart cert-manager cert-manager oci://quay.io/jetstack/charts/cert-manager "$CERT_MANAGER" \
        --set crds.enabled=true
}

install_gateway-api() {
    manifests "https://github.com/kubernetes-sigs/gateway-api/releases/download/$GATEWAY_API/standard-install.yaml"
}

install_envoy-gateway() {
    helm template eg-crds oci://docker.io/envoyproxy/gateway-crds-helm --version "$ENVOY_GATEWAY" \
        --set crds.gatewayAPI.enabled=false --set crds.envoyGateway.enabled=true |
        kubectl apply --server-side --force-conflicts -f -
    chart envoy-gateway-system eg oci://docker.io/envoyproxy/gateway-helm "$ENVOY_GATEWAY" \
        --skip-crds
}

install_external-secrets() {
    # Its service account takes the IAM role that may read our secrets.
    chart external-secrets external-secrets oci://ghcr.io/external-secrets/charts/external-secrets \
        "$EXTERNAL_SECRETS" \
        --set-string "serviceAccount.annotations.eks\.amazonaws\.com/role-arn=$(role external-secrets)"
}

install_prometheus() {
    chart monitoring prometheus oci://ghcr.io/prometheus-community/charts/kube-prometheus-stack \
        "$PROMETHEUS" --values "$here/values/prometheus.yaml"
}

install_dcgm-exporter() {
    chart monitoring dcgm-exporter dcgm-exporter "$DCGM_EXPORTER" \
        --repo https://nvidia.github.io/dcgm-exporter/helm-charts \
        --values "$here/values/dcgm-exporter.yaml"
}

install_keda() {
    chart keda keda keda "$KEDA" --repo https://kedacore.github.io/charts \
        --values "$here/values/keda.yaml"
}

install_strimzi() {
    # Kinds only: the brokers are MSK, and the topic operator comes with the overlay.
    manifests "https://github.com/strimzi/strimzi-kafka-operator/releases/download/$STRIMZI/strimzi-crds-$STRIMZI.yaml"
}

install_kueue() {
    chart kueue-system kueue oci://registry.k8s.io/kueue/charts/kueue "$KUEUE" \
        --values "$here/values/kueue.yaml"
}

install_trainer() {
    chart kubeflow-system kubeflow-trainer oci://ghcr.io/kubeflow/charts/kubeflow-trainer "$TRAINER"
}

install_kfp() {
    local from="https://github.com/kubeflow/pipelines/manifests/kustomize"
    kubectl apply --server-side -k "$from/cluster-scoped-resources?ref=$KFP"
    kubectl wait --for=condition=established --timeout=60s crd --selector=application-crd-id=kubeflow-pipelines
    kubectl apply --server-side -k "$from/env/platform-agnostic?ref=$KFP"
    kubectl --namespace kubeflow rollout status deployment/ml-pipeline --timeout=10m
}

install_kserve() {
    local charts=oci://ghcr.io/kserve/charts
    chart kserve kserve-crd $charts/kserve-crd "$KSERVE"
    chart kserve kserve-resources $charts/kserve-resources "$KSERVE" \
        --values "$here/values/kserve.yaml" \
        --set-string "kserve.controller.gateway.domain=$(domain)"
}

# A cluster on one machine has a class of volumes already.
if [[ $overlay != local ]]; then
    kubectl apply -f "$here/storage.yaml"
fi

while read -r platform; do
    echo "== $platform"
    "install_$platform" </dev/null
done <"$wanted"
